"""The command line of the report, see tools/report.py."""

from pathlib import Path

import jax
from absl import flags, logging

from clipa_jax.errors import UserError
from clipa_jax.report import held_out, page, qualitative, runs
from clipa_jax.runtime import cli

OUT = flags.DEFINE_string("out", None, "The HTML file to write; WORKDIR/report.html by default.")
LOOK = flags.DEFINE_boolean(
    "look",
    False,
    "First look at held-out pictures with the checkpoints of stages that have not been looked "
    "at; needs their data.",
)


def main(argv: list[str]) -> int | None:
    """Writes the report of the workdirs in `argv`."""
    roots = [Path(arg) for arg in argv[1:]]
    if not roots:
        raise UserError("name one workdir or more: python tools/report.py W [W2 ...]")
    for root in roots:
        if not root.is_dir():
            raise UserError(f"no folder {root}; a report needs the --workdir of a training")
    if not LOOK.value:
        jax.config.update("jax_platforms", "cpu")  # the accelerator may be busy, and is not needed
    found = runs.read(roots)
    if LOOK.value:
        _look(found)
        found = runs.read(roots)
    out = Path(OUT.value) if OUT.value else roots[0] / page.NAME
    out.parent.mkdir(parents=True, exist_ok=True)
    page.write(found, out)
    cli.say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return None


def _look(found: list[runs.Run]) -> None:
    """Makes the held-out evidence that is absent, where a stage has an evaluator for it."""
    for run in found:
        for stage in run.stages:
            if stage.held_out is None and stage.result:
                logging.info("looking at held-out pictures with %s", stage.folder)
                held_out.save(qualitative.from_checkpoint(stage.folder), stage.folder)
