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

import dataclasses
from typing import Any

from absl import flags

from clipa_jax.prepare.options import DIRECT, Options, parse_share
from clipa_jax.runtime import cli


def _define(option: dataclasses.Field) -> None:
    """Defines the flag of an option, with its default and help."""
    name, text, default = option.name, option.metadata["help"], option.default
    if default is dataclasses.MISSING:
        flags.DEFINE_string(name, None, text, required=True)
    elif "percent" in option.metadata:
        flags.DEFINE_string(name, "", text)
    elif "choices" in option.metadata:
        flags.DEFINE_enum(name, default, option.metadata["choices"], text)
    elif isinstance(default, tuple):
        flags.DEFINE_list(name, [], text)
    else:
        kind = {str: "string", int: "integer", float: "float"}[type(default)]
        flag = getattr(flags, f"DEFINE_{kind}")(name, default, text)
        if "on_disk" in option.metadata:
            cli.reads_from_disk(flag)


def main(argv: list[str]) -> None:
    """Makes the dataset and prints the report."""
    with cli.needs("data"):
        from clipa_jax.prepare import dataset, report  # noqa: PLC0415 (Beam is optional)
    given = flags.FLAGS
    values: dict[str, Any] = {o.name: given[o.name].value for o in dataclasses.fields(Options)}
    values["holdout"] = parse_share("holdout", values["holdout"])
    options = Options.from_dict(values)
    summary = dataset.make(options, given.out, runner=given.runner, arguments=argv[1:])
    cli.say(f"{report.table(summary)}\n{report.written(summary, given.out)}")


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_string("out", None, "Folder of the dataset, e.g. pairs/1.0.0.", required=True)
    flags.DEFINE_string("runner", DIRECT, "direct, or a runner of Apache Beam.")
    for option in dataclasses.fields(Options):
        _define(option)
    cli.run(main, needs_config=False, positional=True)
