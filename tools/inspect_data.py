"""Looks at training data: what is in it, what a config does to it, how fast it comes.

    python tools/inspect_data.py --config=configs/model_h/pretrain.py --out=inspection \\
        --config.input.source='webdataset:raw/*.tar' --limit=20000

Prints the number of samples, bad ones by reason with the first of each, sizes, captions against
the config's budget of tokens, repetitions, and images/s of the config's pipeline with the
chips that it can feed. OUT gets the same as inspection.json, histograms.png, and
contact_sheet.png: samples as the model sees them, with the text that is left. See
docs/preparing.md.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.prepare import inspect
from clipa_jax.runtime import cli

CONFIG = cli.define_config()
OUT = flags.DEFINE_string("out", None, "Folder for what is found.", required=True)
STAGE = flags.DEFINE_string("stage", "", "Of a schedule; the first one by default.")
LIMIT = flags.DEFINE_integer("limit", 50_000, "Samples to look at; 0 for all.", lower_bound=0)
SHEET = flags.DEFINE_integer("sheet", 24, "Samples on the contact sheet.", lower_bound=1)
CHIP = flags.DEFINE_string("chip", inspect.Chip.name, "That is to be fed, e.g. v5e or h100.")
EFFICIENCY = flags.DEFINE_float(
    "efficiency", inspect.Chip.efficiency, "Model FLOPs over the chip's peak."
)
RATE = flags.DEFINE_float(
    "chip_samples_per_second", 0, "Instead of these: what a chip trains on, where it is known."
)
SECONDS = flags.DEFINE_float("seconds", 5, "To measure the pipeline; 0 for not at all.")


def main(argv: list[str]) -> None:
    """Looks, writes and prints."""
    del argv
    config = inspect.choose(CONFIG.value, STAGE.value)
    report = inspect.examine(
        config,
        Path(OUT.value),
        limit=LIMIT.value,
        sheet=SHEET.value,
        chip=inspect.Chip(CHIP.value, EFFICIENCY.value, RATE.value),
        seconds=SECONDS.value,
    )
    print(inspect.text(report))


if __name__ == "__main__":
    cli.run(main)
