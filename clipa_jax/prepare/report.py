"""What became of the samples of the input, for people and as JSON; the counts add up."""

import bisect
import itertools
from typing import Any

from clipa_jax.data.sources.base import Source
from clipa_jax.errors import DataError
from clipa_jax.prepare import flow
from clipa_jax.prepare.counters import Tally
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.partitions import DROPPED
from clipa_jax.runtime.format import table as aligned


def summary(options: Options, source: Source, tally: Tally, lengths: list[int]) -> dict[str, Any]:
    """The report of a dataset.

    Args:
      options: of the dataset.
      source: its input.
      tally: what became of its samples.
      lengths: samples of each shard.

    Raises:
      DataError: samples were lost or counted twice.
    """
    names = sorted(
        (name for name in tally.counts if name.startswith(DROPPED) and tally[name]),
        key=lambda name: -tally[name],
    )
    dropped: dict[str, dict[str, Any]] = {
        name.removeprefix(DROPPED): {
            "samples": tally[name],
            "first": [sample_name(source, row) for row in tally.rows.get(name, ())],
        }
        for name in names
    }
    kept = tally[flow.WRITTEN]
    if kept + sum(entry["samples"] for entry in dropped.values()) != source.num_examples:
        raise DataError(
            f"the counts do not add up: input {source.num_examples}, kept {kept}, dropped "
            f"{dropped}; this is a defect of tools/prepare_data.py"
        )
    return {
        "input": source.num_examples,
        "kept": kept,
        "dropped": dropped,
        **{name: tally[name] for name in (flow.LEFT_OUT, flow.ANEW, flow.RECORD_BYTES)},
        "shards": len(lengths) if kept else 0,
        "samples_per_shard": [min(lengths), max(lengths)] if kept else [0, 0],
        "options": options.as_dict(),
    }


def table(report: dict[str, Any]) -> str:
    """A report as text."""
    total = report["input"]
    rows: list[tuple[str, ...]] = [("samples", "number", "share", "the first")]
    rows.append(("input", f"{total:,}", "", ""))
    for reason, entry in report["dropped"].items():
        count, first = entry["samples"], entry["first"]
        rows.append((f"dropped: {reason}", f"{count:,}", _share(count, total), *first[:1]))
    rows.append(("kept", f"{report['kept']:,}", _share(report["kept"], total), ""))
    return aligned([(*row, "")[:4] for row in rows], right=(1, 2))


def sample_name(source: Source, row: int) -> str:
    """The file of a sample and its place in it.

    Args:
      source: of the sample.
      row: its place among all of the source.
    """
    starts = list(itertools.accumulate((shard.length for shard in source.shards), initial=0))
    shard = bisect.bisect_right(starts, row) - 1
    return source.describe(shard, row - starts[shard])


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.2f} %"
