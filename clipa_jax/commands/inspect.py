"""Inspects training data for a config: bad samples, sizes, captions, repetitions, throughput.

    python tools/inspect_data.py --config=configs/model_h/pretrain.py --out=inspection \\
        --config.input.source='webdataset:raw/*.tar' --limit=20000

Prints the bad samples by reason, sizes, captions beyond the config's token budget, and the images/s
of the pipeline with the chips that it feeds. OUT gets the same as inspection.json, with
histograms.png and contact_sheet.png, samples as the model sees them. See docs/preparing.md.
"""

from pathlib import Path

from absl import flags

from clipa_jax.errors import ConfigError
from clipa_jax.prepare import inspect
from clipa_jax.runtime import cli


def main(argv: list[str]) -> None:
    """Inspects the data and prints the report."""
    del argv
    given = flags.FLAGS
    report = inspect.examine(
        inspect.choose(given.config, given.stage),
        Path(given.out),
        limit=given.limit,
        sheet=given.sheet,
        chip=inspect.ChipRate(given.chip, given.efficiency, given.chip_samples_per_second),
        seconds=given.seconds,
        stored=[_side(value) for value in given.stored],
    )
    cli.say(inspect.text(report))


def _side(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise ConfigError(f"--stored: expected sides in pixels, got {text!r}")
    return int(text)


def start() -> None:
    """Runs the command line."""
    default = inspect.ChipRate()
    cli.define_config()
    cli.writes_to_disk(
        flags.DEFINE_string("out", None, "Folder for report and charts.", required=True)
    )
    flags.DEFINE_string("stage", "", "Of a schedule; the first one by default.")
    flags.DEFINE_integer("limit", 50_000, "Samples to read; 0 for all.", lower_bound=0)
    flags.DEFINE_integer("sheet", 24, "Samples on the contact sheet.", lower_bound=1)
    flags.DEFINE_string("chip", default.name, "The chip to feed, such as v5e or h100.")
    flags.DEFINE_float("efficiency", default.efficiency, "Model FLOPs over the chip's peak.")
    flags.DEFINE_float("chip_samples_per_second", 0, "Samples/s of a chip, if known.")
    flags.DEFINE_float("seconds", 5, "Duration of the throughput measurement; 0 for none.")
    sides = "Also measure pictures resized to these short sides in pixels, such as 256,128."
    flags.DEFINE_list("stored", [], sides)
    cli.run(main)
