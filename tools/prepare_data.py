"""Makes a training dataset from the output of img2dataset and other sources.

    python tools/prepare_data.py --source='webdataset:raw/*.tar' --out=data/pairs/1.0.0 \\
        --resize=256 --min_side=64 --min_chars=5

Bad samples, duplicates and samples that the filters exclude are dropped, counted and reported;
the rest is shuffled and written as evenly sized TFRecord or ArrayRecord files that TFDS and
`--config.input.source=tfds:data/pairs/1.0.0` read. An interrupted run continues when it is started
again; the dataset has its final name only when it is complete. See docs/preparing.md.

This is an Apache Beam pipeline. It runs in this process unless --runner names a runner of Beam;
arguments after `--` go to Beam: --runner=FlinkRunner -- --flink_master=localhost:8081
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
from clipa_jax.prepare.options import DUPLICATES, FORMATS, Options, parse_share

flags.DEFINE_string("source", None, "As config.input.source has it.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder of the dataset, e.g. pairs/1.0.0.", required=True)
RUNNER = flags.DEFINE_string("runner", flow.DIRECT, "direct, or a runner of Apache Beam.")
flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
flags.DEFINE_string("name", "pairs", "Name of the dataset.")
flags.DEFINE_string("version", "1.0.0", "Its version.")
flags.DEFINE_string("into", "train", "The split to write.")
flags.DEFINE_enum("file_format", "tfrecord", FORMATS, "Of the files.")
flags.DEFINE_integer("seed", 0, "Of the shuffle.")
flags.DEFINE_integer("num_shards", 0, "Number of files; 0 derives it from shard_mb.")
flags.DEFINE_float("shard_mb", 256, "Size of a file in MiB.")
flags.DEFINE_integer("resize", 0, "Short side of larger pictures in pixels; 0 keeps all sizes.")
flags.DEFINE_integer("quality", 92, "Of pictures that are encoded again, as JPEG.")
flags.DEFINE_list("keep", [], "Further features to carry over, e.g. label,url.")
flags.DEFINE_enum("duplicates", "pair", DUPLICATES, "Equal samples of which one is kept.")
flags.DEFINE_integer("min_side", 0, "Drop pictures with a shorter side, in pixels.")
flags.DEFINE_float("max_aspect", 0, "Drop pictures whose long side is more times the short.")
flags.DEFINE_integer("min_chars", 0, "Drop captions with fewer characters.")
flags.DEFINE_integer("max_chars", 0, "Drop captions with more characters.")
flags.DEFINE_integer("min_words", 0, "Drop captions with fewer words.")
HOLDOUT = flags.DEFINE_string("holdout", "", "Share to hold out of training, such as 2%.")
flags.DEFINE_string("holdout_into", "validation", "The split with that share.")


def main(argv: list[str]) -> None:
    """Makes the dataset and prints the report."""
    values = {name: flags.FLAGS[name].value for name in Options.__dataclass_fields__}
    values["holdout"] = parse_share("holdout", HOLDOUT.value)
    summary = dataset.make(
        Options.from_dict(values), OUT.value, runner=RUNNER.value, arguments=argv[1:]
    )
    cli.say(f"{report.table(summary)}\n{report.written(summary, OUT.value)}")


if __name__ == "__main__":
    cli.run(main, positional=True)
