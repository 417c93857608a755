"""Training data examined for a config: what is in it, and what the pipeline makes of it."""

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clipa_jax.config import schedules
from clipa_jax.config.batch import IMAGE, TOKENS
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline, sources
from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.models import color_jitter
from clipa_jax.prepare import charts, inspection, throughput
from clipa_jax.preprocess.text import Tokenizer, load_tokenizer
from clipa_jax.runtime import files
from clipa_jax.runtime.format import table
from clipa_jax.runtime.progress import Progress

REPORT, HISTOGRAMS, SHEET = "inspection.json", "histograms{}.png", "contact_sheet.png"


def choose(config: ConfigDict, name: str) -> ConfigDict:
    """The stage of a config that data is examined for: `name`, or the first one.

    Raises:
      ConfigError: no such stage.
    """
    stages = {one.name: one for one in schedules.split(config)}
    if name and name not in stages:
        raise ConfigError("--stage: " + unknown("stage", name, stages))
    return stages[name] if name else next(iter(stages.values()))


@dataclass(frozen=True)
class Chip:
    """What a chip takes.

    Attributes:
      name: from `planning.chips`.
      efficiency: model FLOPs over its peak.
      samples_per_second: instead, if it is known; 0 if not.
    """

    name: str = "v5e"
    efficiency: float = throughput.EFFICIENCY
    samples_per_second: float = 0.0

    def appetite(self, config: ConfigDict) -> tuple[float, str]:
        """Samples/s, and where they are known from."""
        if self.samples_per_second:
            return self.samples_per_second, "as stated"
        rate = throughput.chip_appetite(config, self.name, self.efficiency)
        return rate, f"{self.name} at {100 * self.efficiency:g} % of its peak"


def examine(
    config: ConfigDict,
    out: Path,
    *,
    limit: int,
    sheet: int,
    chip: Chip | None = None,
    seconds: float = 5.0,
) -> dict[str, Any]:
    """Looks at the data of a stage; writes what it finds, and pictures of it, to `out`.

    Args:
      config: of the stage.
      out: a folder.
      limit: samples of each source to look at, 0 for all.
      sheet: samples on the contact sheet.
      chip: that is to be fed; a v5e by default.
      seconds: how long the pipeline is measured; 0 for not at all.

    Returns:
      What is in inspection.json.

    Raises:
      UserError: anything wrong with the config or the data; no sample is any good.
    """
    section = Settings(config, "config").input
    appetite, what = (chip or Chip()).appetite(config) if seconds else (0.0, "")
    source = sources.open(pipeline.source_spec(section), section.split)
    parts = source.components if isinstance(source, sources.Mixture) else (source,)
    tokenizer = load_tokenizer(section.vocab)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"stage": config.name, "max_skip_percent": section.max_skip_percent}
    report["sources"] = []
    for number, part in enumerate(parts):
        found = _look(part, tokenizer, limit, section.max_pixels)
        report["sources"].append(
            inspection.summary(
                part,
                found,
                res=section.res,
                text_len=section.text_len,
                reduction=section.reduction,
                vocab=section.vocab,
            )
        )
        if not found.size_N2:
            raise DataError(f"none of {found.looked} samples is any good:\n{text(report)}")
        drawn = out / HISTOGRAMS.format(f"_{number + 1}" if len(parts) > 1 else "")
        charts.histograms(found, str(drawn), res=section.res, text_len=section.text_len)
    number = min(sheet, sum(one["good"] for one in report["sources"]))
    _contact_sheet(config, tokenizer, str(out / SHEET), number)
    if seconds:
        rate = throughput.images_per_core(config, seconds)
        report["pipeline"] = throughput.summary(rate, os.cpu_count() or 1, appetite, what)
    files.write_json(out / REPORT, report)
    return report


def _look(
    source: sources.Source, tokenizer: Tokenizer, limit: int, max_pixels: int
) -> inspection.Findings:
    """Everything that was seen of a source, with progress shown."""
    wanted = min(limit or source.num_examples, source.num_examples)
    with Progress("looking", wanted) as progress:
        for found in inspection.look(source, tokenizer, limit, max_pixels):
            progress.update(found.looked)
    return found


def _contact_sheet(config: ConfigDict, tokenizer: Tokenizer, out: str, number: int) -> None:
    """Draws the first samples of training, through the pipeline that trains."""
    section = throughput.section(config, batch_size=number)
    data = pipeline.train(section, seed=config.seed)
    ((batch, _),) = itertools.islice(data.start(), 1)
    tokens = batch.get(TOKENS)
    texts = [""] * number
    if tokens is not None:
        texts = [charts.kept_text(tokenizer, token_L) for token_L in tokens]
    title = f"{config.name}: {section.res} px, {section.text_len} text tokens"
    seen = color_jitter.apply(jax.tree.map(jnp.asarray, batch))[IMAGE]
    charts.contact_sheet(np.asarray(seen), texts, out, title=title)


def text(report: dict[str, Any]) -> str:
    """A report for people."""
    parts = [_source_text(report, one) for one in report["sources"]]
    parts += [throughput.text(report["pipeline"])] if "pipeline" in report else []
    return "\n\n".join(parts)


def _source_text(report: dict[str, Any], one: dict[str, Any]) -> str:
    looked, bad = one["looked_at"], one["bad"]
    lines = [
        f"{one['source']}, split {one['split']}: {one['samples']:,} samples, "
        f"{looked:,} looked at, {one['good']:,} good"
    ]
    if bad:
        rows: list[tuple[str, ...]] = [("bad samples", "number", "share", "the first")]
        for reason, entry in bad.items():
            share = _percent(entry["samples"], looked)
            first = entry["first"]
            rows.append((reason, f"{entry['samples']:,}", share, first[0]))
            rows += [("", "", "", name) for name in first[1:]]
        lines += ["", table(rows, right=(1, 2))]
        if 100 * (looked - one["good"]) > report["max_skip_percent"] * looked:
            lines.append(
                f"more than max_skip_percent={report['max_skip_percent']}: training would stop"
            )
    stage_name = report["stage"]
    lines += ["", _quantiles(one), "", *_captions(one, stage_name), *_repetitions(one)]
    return "\n".join(lines)


def _quantiles(report: dict[str, Any]) -> str:
    measured = {
        "short side, pixels": report["short_side"],
        "long side / short side": report["aspect"],
        "encoded picture, bytes": report["image_bytes"],
        "pieces of a caption": report["captions"]["pieces"],
    }
    rows: list[tuple[str, ...]] = [("", *inspection.QUANTILES)]
    for name, values in measured.items():
        rows.append((name, *(f"{values[q]:,.10g}" if values else "-" for q in rows[0][1:])))
    return table(rows, right=tuple(range(1, len(rows[0]))))


def _captions(report: dict[str, Any], stage_name: str) -> Iterable[str]:
    captions, small = report["captions"], report["smaller_than_res"]
    if captions["number"]:
        yield (
            f"captions: {captions['number']:,}; {captions['shortened']:,} "
            f"({_percent(captions['shortened'], captions['number'])}) have more than the "
            f"{captions['budget']} pieces that stage {stage_name} takes and are shortened by "
            f"'{captions['reduction']}'; {captions['pieces_lost_percent']} % of all pieces are lost"
        )
    yield (
        f"pictures: {small['samples']:,} ({_percent(small['samples'], report['good'])}) have a "
        f"short side below the {small['res']} pixels of training"
    )


def _repetitions(report: dict[str, Any]) -> Iterable[str]:
    shares = [f"{what} {entry['percent']} %" for what, entry in report["repeated"].items()]
    yield f"seen before among those looked at: {', '.join(shares)}"
    for caption, count in report["frequent_captions"]:
        yield f"  {count:,} times: {caption[:100]!r}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.2f} %"
