"""The report of a prepared dataset: samples kept and dropped, as a table and as JSON."""

import bisect
import itertools
from typing import Any

from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare import flow
from clipa_jax.prepare.counters import Counters
from clipa_jax.prepare.layout import RECORD_BYTES, WRITTEN, Layout
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.partitions import DROPPED
from clipa_jax.runtime.format import percent
from clipa_jax.runtime.format import table as aligned


def summary(options: Options, source: Source, counters: Counters, layout: Layout) -> dict[str, Any]:
    """The report of a dataset; `DataError` if samples were lost or counted twice."""
    names = sorted(
        (name for name in counters.counts if name.startswith(DROPPED) and counters[name]),
        key=lambda name: (-counters[name], name),  # whatever the runner counted first
    )
    dropped: dict[str, dict[str, Any]] = {
        name.removeprefix(DROPPED): {
            "samples": counters[name],
            "first": [sample_name(source, row) for row in counters.rows.get(name, ())],
        }
        for name in names
    }
    kept, lengths = counters[WRITTEN], layout.lengths
    if kept + sum(entry["samples"] for entry in dropped.values()) != source.num_examples:
        raise DataError(
            f"the counts do not add up: input {source.num_examples}, kept {kept}, dropped "
            f"{dropped}; this is a defect of tools/prepare_data.py"
        )
    return {
        "input": source.num_examples,
        "kept": kept,
        "dropped": dropped,
        **{name: counters[name] for name in (flow.LEFT_OUT, flow.ANEW, RECORD_BYTES)},
        "shards": len(lengths),
        "samples_per_shard": [min(lengths), max(lengths)] if lengths else [0, 0],
        "splits": {split.name: split.samples for split in layout.splits},
        "options": options.as_dict(),
    }


def table(report: dict[str, Any]) -> str:
    """A report as text."""
    total = report["input"]
    rows: list[tuple[str, ...]] = [("samples", "number", "share", "the first")]
    rows.append(("input", f"{total:,}", "", ""))
    for reason, entry in report["dropped"].items():
        count, first = entry["samples"], entry["first"]
        rows.append((f"dropped: {reason}", f"{count:,}", percent(count / total, 2), *first[:1]))
    rows.append(("kept", f"{report['kept']:,}", percent(report["kept"] / total, 2), ""))
    return aligned([(*row, "")[:4] for row in rows], right=(1, 2))


def written(report: dict[str, Any], out: str) -> str:
    """The sentence on the files of a dataset."""
    number, (fewest, most) = report["shards"], report["samples_per_shard"]
    files = "1 file" if number == 1 else f"{number:,} files"
    samples = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    splits = ", ".join(f"{name} {count:,}" for name, count in report["splits"].items())
    return (
        f"wrote {out}: {files} of {samples} samples ({splits}), "
        f"{report['record_bytes'] / 1e6:,.1f} MB; read it with --config.input.source=tfds:{out}"
    )


def sample_name(source: Source, row: int) -> str:
    """The file of a sample and its index in it, by its index among all samples of the source."""
    starts = list(itertools.accumulate((shard.length for shard in source.shards), initial=0))
    shard = bisect.bisect_right(starts, row) - 1
    return source.describe(shard, row - starts[shard])
