"""Writes one HTML page on a run, or on several side by side, that opens from disk.

    python tools/report.py runs/demo
    python tools/report.py runs/a runs/b --out=both.html
    python tools/report.py runs/old --look      # held-out pictures of a run that has none

docs/report.md describes its sections and their files.
"""

from collections.abc import Sequence

import jax
from absl import flags, logging

from clipa_jax import runs
from clipa_jax.errors import UserError
from clipa_jax.evaluation import held_out
from clipa_jax.report import page
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir


def main(argv: list[str]) -> None:
    """Writes the report of the workdirs in `argv`."""
    roots = [Path(arg) for arg in argv[1:]]
    if not roots:
        raise UserError("name one workdir or more: python tools/report.py W [W2 ...]")
    for root in roots:
        if not root.is_dir():
            raise UserError(f"no folder {root}; a report needs the --workdir of a training")
    if flags.FLAGS.look:
        _add_held_out(runs.read(roots))
    else:
        jax.config.update("jax_platforms", "cpu")  # the accelerator may be busy, and is not needed
    out = Path(flags.FLAGS.out) if flags.FLAGS.out else roots[0] / workdir.REPORT
    files.make_folder(out.parent)
    size = page.write(runs.read(roots), out)
    cli.say(f"wrote {out} ({size / 1e6:.1f} MB)")


def _add_held_out(read: Sequence[runs.Run]) -> None:
    """Adds held-out pictures to finished stages without them."""
    from clipa_jax.report import qualitative  # noqa: PLC0415, imports TensorFlow

    for run in read:
        for stage in run.stages:
            if stage.held_out is None and stage.result:
                logging.info("computing held-out pictures with %s", stage.folder)
                held_out.save(qualitative.from_checkpoint(stage.folder), stage.folder)


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_string("out", None, "The HTML file to write; WORKDIR/report.html by default.")
    flags.DEFINE_boolean(
        "look",
        False,
        "First compute held-out pictures and captions from the checkpoints of stages that lack "
        "them; needs their data.",
    )
    cli.run(main, needs_config=False, positional=True)


if __name__ == "__main__":
    start()
