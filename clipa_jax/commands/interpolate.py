"""Interpolates between two checkpoints (WiSE-FT), or averages several (a soup).

    python tools/interpolate.py runs/start runs/tuned --alpha=0.5 --out=mixed.npz
    python tools/interpolate.py runs/a runs/b runs/c --out=soup.npz
    python tools/interpolate.py runs/start runs/tuned --alpha=0,0.25,0.5,0.75,1 --out=sweep \\
        --config=configs/eval/imagenet.py

alpha is the share of the second checkpoint. With --config each alpha is evaluated, and the scores
are printed and drawn in OUT/curve.png; OUT/curve.json has the numbers. Checkpoints are what
`clipa_jax.load` takes; the config is that of the last one. See docs/finetuning.md.
"""

from pathlib import Path

import numpy as np
from absl import flags, logging
from matplotlib.figure import Figure

from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.evaluation import checkpoint, command, record
from clipa_jax.report import figures
from clipa_jax.runtime import cli, distributed, files, format
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
    scores: dict[str, list[dict[str, float]]] = {}
    for number, weights in enumerate(mixtures):
        logging.info("evaluating %s", weights.path)
        result = command.run(weights, given)
        record.write(out / f"evaluation_{number}.json", result)
        for name, evaluation in result.report["evaluations"].items():
            for metric, score in evaluation["metrics"].items():
                scores.setdefault(f"{name}/{metric}", []).append(score)
    if distributed.first():
        curve = {name: [score["value"] for score in row] for name, row in scores.items()}
        files.write_json(out / "curve.json", {"alpha": alphas, **curve})
        if alphas and curve:
            rows = [(name, *(format.score(name, x) for x in row)) for name, row in curve.items()]
            head = ("alpha", *(f"{alpha:g}" for alpha in alphas))
            cli.say(format.table([head, *rows], range(1, len(head))))
            _draw(alphas, scores, out / "curve.png")


def _draw(alphas: list[float], scores: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Draws the scores with their intervals over alpha, each in a panel of its own."""
    figure = Figure(figsize=(6, 2.2 * len(scores) + 0.5), dpi=150, layout="constrained")
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, row) in zip(panels, scores.items(), strict=True):
        share = format.is_share(name)
        value, low, high = (
            np.array([score.get(key, score["value"]) for score in row]) * (100 if share else 1)
            for key in ("value", "low", "high")
        )
        around = np.maximum([value - low, high - value], 0.0)
        axes.errorbar(alphas, value, around, marker="o", capsize=3)
        axes.set_title(f"{name}, %" if share else name, loc="left", fontsize=9)
        figures.plain_axes(axes, 8)
    panels[-1].set_xticks(alphas)
    panels[-1].set_xlabel("alpha, the share of the second checkpoint; bars: 95 % intervals")
    figure.savefig(file)
    logging.info("wrote %s", file)


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_list("alpha", [], "Shares of the second checkpoint.")
    cli.writes_to_disk(
        flags.DEFINE_string("out", None, "FILE.npz; with --config a folder.", required=True)
    )
    cli.define_config()
    cli.run(main, needs_config=False, positional=True)
