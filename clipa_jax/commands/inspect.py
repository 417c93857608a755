"""Inspects training data for a config: bad samples, sizes, captions, repetitions, throughput.

    python tools/inspect_data.py --config=configs/model_h/pretrain.py --out=inspection \\
        --config.input.source='webdataset:raw/*.tar' --limit=20000

Prints the bad samples by reason, sizes, captions beyond the config's token budget, and the images/s
of the pipeline with the chips that it feeds. OUT gets the same as inspection.json, with
histograms.png and contact_sheet.png, samples as the model sees them. See docs/preparing.md.
"""

import functools
from pathlib import Path

from absl import flags

from clipa_jax.prepare import inspect
from clipa_jax.runtime import cli

CONFIG = cli.define_config()
OUT = flags.DEFINE_string("out", None, "Folder for report and charts.", required=True)
STAGE = flags.DEFINE_string("stage", "", "Of a schedule; the first one by default.")
LIMIT = flags.DEFINE_integer("limit", 50_000, "Samples to read; 0 for all.", lower_bound=0)
SHEET = flags.DEFINE_integer("sheet", 24, "Samples on the contact sheet.", lower_bound=1)
CHIP = flags.DEFINE_string("chip", inspect.ChipRate.name, "The chip to feed, such as v5e or h100.")
EFFICIENCY = flags.DEFINE_float(
    "efficiency", inspect.ChipRate.efficiency, "Model FLOPs over the chip's peak."
)
RATE = flags.DEFINE_float("chip_samples_per_second", 0, "Samples/s of a chip, if known.")
SECONDS = flags.DEFINE_float("seconds", 5, "Duration of the throughput measurement; 0 for none.")


def main(argv: list[str]) -> None:
    """Inspects the data and prints the report."""
    del argv
    config = inspect.choose(CONFIG.value, STAGE.value)
    report = inspect.examine(
        config,
        Path(OUT.value),
        limit=LIMIT.value,
        sheet=SHEET.value,
        chip=inspect.ChipRate(CHIP.value, EFFICIENCY.value, RATE.value),
        seconds=SECONDS.value,
    )
    cli.say(inspect.text(report))


start = functools.partial(cli.run, main)

if __name__ == "__main__":
    start()
