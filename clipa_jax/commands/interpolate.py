"""Interpolates between two checkpoints (WiSE-FT), or averages several (a soup).

    python tools/interpolate.py runs/start runs/tuned --alpha=0.5 --out=mixed.npz
    python tools/interpolate.py runs/a runs/b runs/c --out=soup.npz
    python tools/interpolate.py runs/start runs/tuned --alpha=0,0.25,0.5,0.75,1 --out=sweep \\
        --config=configs/eval/imagenet.py

alpha is the share of the second checkpoint. With --config each alpha is evaluated, and the scores
are drawn in OUT/curve.png; OUT/curve.json has the numbers. Checkpoints are what `clipa_jax.load`
takes; the config is that of the last one. See docs/finetuning.md.
"""

from pathlib import Path

from absl import flags, logging
from matplotlib.figure import Figure

from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.evaluation import checkpoint, command, record
from clipa_jax.report import figures
from clipa_jax.runtime import cli, distributed, files
from clipa_jax.training import workdir
from clipa_jax.weights import mix, npz, open_weights


def main(argv: list[str]) -> None:
    """Writes or evaluates the mean weights."""
    given, out = flags.FLAGS.alpha, Path(flags.FLAGS.out)
    opened = [mix.kept(open_weights(path)) for path in argv[1:]]
    if len(opened) < 2 or (given and len(opened) > 2):
        raise ConfigError("name two checkpoints and --alpha=, or several to average")
    try:
        alphas = [float(alpha) for alpha in given]
    except ValueError:
        raise ConfigError(f"--alpha={','.join(given)}: expected numbers") from None
    mixtures = [mix.mixed(opened, (1 - alpha, alpha)) for alpha in alphas]
    mixtures = mixtures or [mix.mixed(opened, [1 / len(opened)] * len(opened))]
    if flags.FLAGS.config is not None:
        _sweep(alphas, mixtures, out)
    elif len(mixtures) > 1 or out.suffix != ".npz":
        raise ConfigError("without --config give one alpha, and --out=FILE.npz")
    else:
        _write(mixtures[0], out)


def _write(weights, out: Path) -> None:
    config = weights.config
    if out.exists():
        raise CheckpointError(f"{out} exists already; move it away or choose another --out")
    npz.write(out, weights.read())
    if config is not None:
        files.write_json(npz.config_file(out), workdir.to_json(config), indent=2)
    logging.info("wrote %s: %s", out, weights.path)


def _sweep(alphas: list[float], mixtures: list, out: Path) -> None:
    """Evaluates each mixture and draws the scores."""
    out.mkdir(parents=True, exist_ok=True)
    given = checkpoint.stage_of(flags.FLAGS.config, mixtures[-1])
    cli.start_jax(given)
    curve: dict[str, list[float]] = {}
    for number, weights in enumerate(mixtures):
        logging.info("evaluating %s", weights.path)
        result = command.run(weights, given)
        record.write(out / f"evaluation_{number}.json", result)
        for name, evaluation in result.report["evaluations"].items():
            for metric, score in evaluation["metrics"].items():
                curve.setdefault(f"{name}/{metric}", []).append(score["value"])
    if distributed.first():
        files.write_json(out / "curve.json", {"alpha": alphas, **curve})
        if alphas and curve:
            _draw(alphas, curve, out / "curve.png")


def _draw(alphas: list[float], curve: dict[str, list[float]], file: Path) -> None:
    """Draws the scores over alpha, each in a panel of its own."""
    figure = Figure(figsize=(6, 2.2 * len(curve) + 0.5), dpi=150, layout="constrained")
    panels = figure.subplots(len(curve), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, curve.items(), strict=True):
        axes.plot(alphas, values, marker="o")
        axes.set_title(name, loc="left", fontsize=9)
        figures.plain_axes(axes, 8)
    panels[-1].set_xlabel("alpha, the share of the second checkpoint")
    figure.savefig(file)
    logging.info("wrote %s", file)


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_list("alpha", [], "Shares of the second checkpoint.")
    flags.DEFINE_string("out", None, "FILE.npz; with --config a folder.", required=True)
    cli.define_config()
    cli.run(main, needs_config=False, positional=True)
