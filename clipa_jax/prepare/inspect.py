"""Inspection of training data for a config: statistics, charts and throughput."""

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from clipa_jax.config.batch import IMAGE, TOKENS
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline, robust_map, sources
from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.models import color_jitter
from clipa_jax.prepare import charts, source_statistics, throughput
from clipa_jax.prepare import stored as stored_sizes
from clipa_jax.preprocess.text import Tokenizer, load_tokenizer
from clipa_jax.runtime import files
from clipa_jax.runtime.format import percent, table
from clipa_jax.runtime.progress import Progress
from clipa_jax.training import derive
from clipa_jax.weights import open_weights

REPORT, HISTOGRAMS, SHEET = "inspection.json", "histograms{}.png", "contact_sheet.png"


def choose(config: ConfigDict, name: str) -> ConfigDict:
    """The stage `name` of a config, or its first one."""
    stages = {stage.name: stage for stage in derive.resolve(config, open_weights)}
    if name and name not in stages:
        raise ConfigError("--stage: " + unknown("stage", name, stages))
    return stages[name] if name else next(iter(stages.values()))


@dataclass(frozen=True)
class ChipRate:
    """The samples per second that a chip trains on, given or estimated."""

    name: str = "v5e"  # from `planning.chips`
    efficiency: float = throughput.EFFICIENCY  # model FLOPs over its peak, for an estimate
    samples_per_second: float = 0.0  # 0 to estimate it

    def resolve(self, config: ConfigDict) -> tuple[float, str]:
        """(samples/s, the source of the number)."""
        if self.samples_per_second:
            return self.samples_per_second, "as stated"
        rate = throughput.required_samples_per_second(config, self.name, self.efficiency)
        return rate, f"{self.name} at {100 * self.efficiency:g} % of its peak"


def examine(
    config: ConfigDict,
    out: Path,
    *,
    limit: int,
    sheet: int,
    chip: ChipRate | None = None,
    seconds: float = 5.0,
    stored: Sequence[int] = (),
) -> dict[str, Any]:
    """Inspects the data of a stage; writes report and charts to the folder `out`.

    Reads `limit` samples of each source, 0 for all, draws `sheet` of them, and measures the
    throughput for some seconds, 0 for none; also with pictures whose short side is one of `stored`,
    in pixels. Returns inspection.json; `UserError` for an error in the config or the data, or if no
    sample is good.
    """
    if stored and not seconds:
        raise ConfigError("--stored measures the speed of smaller files; set --seconds above 0")
    section = Settings(config, "config").input
    required, chip_name = (chip or ChipRate()).resolve(config) if seconds else (0.0, "")
    source = pipeline.open_source(section)
    robust_map.takes_captions(source, pipeline.fill(section.preprocess, section))
    components = source.components if isinstance(source, sources.Mixture) else (source,)
    tokenizer = load_tokenizer(section.vocab)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"stage": config.name, "max_skip_percent": section.max_skip_percent}
    report["sources"] = []
    for number, component in enumerate(components, 1):
        total = min(limit or component.num_examples, component.num_examples)
        with Progress("inspecting", total) as progress:
            for statistics in source_statistics.collect(
                component, tokenizer, limit, section.max_pixels
            ):
                progress.update(statistics.total)
        keys = ("res", "text_len", "reduction", "vocab")
        values = {key: getattr(section, key) for key in keys}
        report["sources"].append(source_statistics.summary(component, statistics, **values))
        if not statistics.size_N2:
            raise DataError(f"none of {statistics.total} samples is good:\n{text(report)}")
        chart = out / HISTOGRAMS.format(f"_{number}" if len(components) > 1 else "")
        charts.histograms(statistics, str(chart), res=section.res, text_len=section.text_len)
    drawn = min(sheet, sum(entry["good"] for entry in report["sources"]))
    _contact_sheet(config, tokenizer, str(out / SHEET), drawn)
    if seconds:
        rate = throughput.images_per_core(config, seconds)
        report["pipeline"] = throughput.summary(rate, os.cpu_count() or 1, required, chip_name)
        report["stored"] = stored_sizes.measure(config, stored, seconds, required)
    files.write_json(out / REPORT, report)
    return report


def _contact_sheet(config: ConfigDict, tokenizer: Tokenizer, out: str, number: int) -> None:
    """Draws the first samples of training, through the training pipeline."""
    section = throughput.input_section(config, batch_size=number)
    data = pipeline.train_data(section, seed=config.seed)
    ((batch, _),) = itertools.islice(data.start(), 1)
    tokens = batch.get(TOKENS)
    texts = [""] * number
    if tokens is not None:
        texts = [charts.kept_text(tokenizer, token_L) for token_L in tokens]
    title = f"{config.name}: {section.res} px, {section.text_len} text tokens"
    images = color_jitter.apply(jax.tree.map(jnp.asarray, batch))[IMAGE]
    charts.contact_sheet(np.asarray(images), texts, out, title=title)


def text(report: dict[str, Any]) -> str:
    """A report as text."""
    parts = [_source_text(report, source) for source in report["sources"]]
    parts += [throughput.text(report["pipeline"])] if "pipeline" in report else []
    parts += [stored_sizes.text(report["stored"])] if report.get("stored") else []
    return "\n\n".join(parts)


def _source_text(report: dict[str, Any], source: dict[str, Any]) -> str:
    total, bad = source["looked_at"], source["bad"]
    lines = [
        f"{source['source']}, split {source['split']}: {source['samples']:,} samples, "
        f"{total:,} looked at, {source['good']:,} good"
    ]
    if bad:
        rows: list[tuple[str, ...]] = [("bad samples", "number", "share", "the first")]
        for reason, entry in bad.items():
            share = _percent(entry["samples"], total)
            first = entry["first"]
            rows.append((reason, f"{entry['samples']:,}", share, first[0]))
            rows += [("", "", "", name) for name in first[1:]]
        lines += ["", table(rows, right=(1, 2))]
        if 100 * (total - source["good"]) > report["max_skip_percent"] * total:
            lines.append(
                f"more than max_skip_percent={report['max_skip_percent']}: training would stop"
            )
    lines += ["", _quantiles(source), "", *_captions(source, report["stage"])]
    shares = [f"{kind} {entry['percent']} %" for kind, entry in source["repeated"].items()]
    lines.append(f"repetitions: {', '.join(shares)}")
    repeated = source["frequent_captions"]
    return "\n".join([*lines, *(f"  {n:,} times: {text[:100]!r}" for text, n in repeated)])


def _quantiles(source: dict[str, Any]) -> str:
    measured = {
        "short side, pixels": source["short_side"],
        "long side / short side": source["aspect"],
        "encoded picture, bytes": source["image_bytes"],
        "pieces of a caption": source["captions"]["pieces"],
    }
    rows: list[tuple[str, ...]] = [("", *source_statistics.QUANTILES)]
    for name, values in measured.items():
        rows.append((name, *(f"{values[q]:,.10g}" if values else "-" for q in rows[0][1:])))
    return table(rows, right=tuple(range(1, len(rows[0]))))


def _captions(source: dict[str, Any], stage_name: str) -> Iterable[str]:
    captions, small = source["captions"], source["smaller_than_res"]
    if captions["number"]:
        yield (
            f"captions: {captions['number']:,}; {captions['shortened']:,} "
            f"({_percent(captions['shortened'], captions['number'])}) have more than the "
            f"{captions['budget']} pieces of stage {stage_name} and are shortened by "
            f"'{captions['reduction']}'; {captions['pieces_lost_percent']} % of all pieces are lost"
        )
    yield (
        f"pictures: {small['samples']:,} ({_percent(small['samples'], source['good'])}) have a "
        f"short side below the {small['res']} pixels of training"
    )


def _percent(part: int, whole: int) -> str:
    return percent(part / max(whole, 1), 2)
