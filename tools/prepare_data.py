"""Makes a dataset for training from what img2dataset and others write.

    python tools/prepare_data.py --source='webdataset:raw/*.tar' --out=data/pairs/1.0.0 \\
        --resize=256 --min_side=64 --min_chars=5

Samples that cannot be used, duplicates and what the filters exclude are dropped, counted and
reported; the rest is shuffled and written as evenly sized TFRecord or ArrayRecord files that
TFDS and `--config.input.source=tfds:data/pairs/1.0.0` read. A run that was stopped goes
on when it is started again; the dataset has its name only when it is whole. See
docs/preparing.md.

It is an Apache Beam pipeline, run by this process unless --runner names one of Beam's; what
comes behind `--` is for Beam: --runner=FlinkRunner -- --flink_master=localhost:8081
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax

from clipa_jax.runtime import cli

try:
    from clipa_jax.prepare import dataset, flow, report
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: pip install -r requirements-data.txt")
from clipa_jax.prepare.options import DUPLICATES, FORMATS, Options

flags.DEFINE_string("source", None, "As config.input.source has it.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder of the dataset, e.g. pairs/1.0.0.", required=True)
RUNNER = flags.DEFINE_string("runner", flow.DIRECT, "direct, or a runner of Apache Beam.")
flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
flags.DEFINE_string("name", "pairs", "Name of the dataset.")
flags.DEFINE_string("version", "1.0.0", "Its version.")
flags.DEFINE_string("into", "train", "The split that is written.")
flags.DEFINE_enum("file_format", "tfrecord", FORMATS, "Of the files.")
flags.DEFINE_integer("seed", 0, "Of the shuffle.")
flags.DEFINE_integer("num_shards", 0, "Number of files; 0: by their size.")
flags.DEFINE_float("shard_mb", 256, "Size of a file in MiB.")
flags.DEFINE_integer("resize", 0, "Short side, in pixels, of larger pictures; 0: as they are.")
flags.DEFINE_integer("quality", 92, "Of pictures that are encoded anew, as JPEG.")
flags.DEFINE_list("keep", [], "Further features to carry over, e.g. label,url.")
flags.DEFINE_enum("duplicates", "pair", DUPLICATES, "What may be there only once.")
flags.DEFINE_integer("min_side", 0, "Drop pictures with a shorter side, in pixels.")
flags.DEFINE_float("max_aspect", 0, "Drop pictures whose long side is more times the short.")
flags.DEFINE_integer("min_chars", 0, "Drop captions with fewer characters.")
flags.DEFINE_integer("max_chars", 0, "Drop captions with more characters.")
flags.DEFINE_integer("min_words", 0, "Drop captions with fewer words.")


def main(argv: list[str]) -> None:
    """Makes the dataset and prints what became of its input."""
    values = {name: flags.FLAGS[name].value for name in Options.__dataclass_fields__}
    made = dataset.make(
        Options.from_dict(values), OUT.value, runner=RUNNER.value, arguments=argv[1:]
    )
    print(report.table(made))
    print(
        f"wrote {OUT.value}: {made['shards']:,} files of {made['samples_per_shard'][0]:,} to "
        f"{made['samples_per_shard'][1]:,} samples, {made['record_bytes'] / 1e6:,.1f} MB; "
        f"read it with --config.input.source=tfds:{OUT.value}"
    )


if __name__ == "__main__":
    cli.run(main)
