"""The content of the page's tables: rows of text, made from runs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from clipa_jax.runs import Run, Stage
from clipa_jax.runtime import format
from clipa_jax.training import workdir

# Keys that differ between any two stages.
_NAMING = ("name", "after")


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; the first column names the rows."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""


@dataclass(frozen=True)
class Bar:
    """One measure and its division among the stages."""

    measure: str
    total: str
    parts: list[dict[str, Any]]


def schedule(run: Run) -> Table:
    """The stages as they ran."""
    header = (
        "stage",
        "pixels",
        "image tokens",
        "text tokens",
        "samples",
        "batch",
        "steps",
        "peak rate",
        "time",
        "FLOPs",
    )
    rows = []
    for stage in run.stages:
        inputs, sizes = stage.config["input"], stage.sizes
        result = stage.result or {}
        rows.append(
            (
                stage.name if stage.result else f"{stage.name} (not finished)",
                f"{inputs['res']}",
                format.count(result.get("image_tokens") or (sizes.image_tokens if sizes else None)),
                format.count(inputs["text_len"]),
                format.count(stage.samples),
                format.count(stage.batch_size),
                format.count(stage.samples / stage.batch_size),
                format.rate(stage.peak_lr),
                format.duration(stage.seconds),
                format.short(stage.flops),
            )
        )
    return Table(header, rows)


def bars(run: Run) -> list[Bar]:
    """The division of samples, time and FLOPs among the stages."""
    measures: list[tuple[str, list[float]]] = [
        ("samples", [stage.samples for stage in run.stages]),
        ("training time", [stage.seconds for stage in run.stages]),
    ]
    flops = [stage.flops for stage in run.stages]
    if None not in flops:
        measures.append(("training FLOPs", [value or 0.0 for value in flops]))
    shown = []
    for measure, values in measures:
        show = format.duration if measure == "training time" else format.short
        total = sum(values) or 1.0
        shown.append(
            Bar(
                measure,
                show(sum(values)),
                [
                    {
                        "stage": stage.name,
                        "index": index,
                        "share": value / total,
                        "percent": format.percent(value / total, 0),
                    }
                    for index, (stage, value) in enumerate(zip(run.stages, values, strict=True))
                ],
            )
        )
    return shown


def speed(run: Run) -> Table:
    """Seconds, speed, waiting times and skipped samples."""
    rows = []
    for stage in run.stages:
        pace = samples_per_second(stage)
        waits = [r["input_wait_share"] for r in stage.records if "input_wait_share" in r]
        flops = None if pace is None or stage.sample_flops is None else pace * stage.sample_flops
        dropped = max((r.get("skipped_updates", 0) for r in stage.records), default=0)
        rows.append(
            (
                stage.name,
                format.duration(stage.seconds),
                format.duration(max(stage.wall_seconds - stage.seconds, 0.0)),
                format.NONE if pace is None else f"{pace:,.0f}",
                format.short(flops),
                format.percent(statistics.fmean(waits) if waits else None),
                format.count(sum(stage.skipped.values())),
                format.count(dropped),
            )
        )
    header = (
        "stage",
        "training",
        "evaluation",
        "samples/s",
        "model FLOP/s",
        "waiting for input",
        "skipped samples",
        "skipped updates",
    )
    return Table(header, rows)


def skipped(run: Run) -> Table | None:
    """Samples that could not be used, by reason; None where there were none."""
    reasons = sorted({reason for stage in run.stages for reason in stage.skipped})
    if not reasons:
        return None
    rows = [
        (
            reason.replace("_", " "),
            *(format.count(stage.skipped.get(reason, 0)) for stage in run.stages),
        )
        for reason in reasons
    ]
    return Table(("reason", *(stage.name for stage in run.stages)), rows)


def samples_per_second(stage: Stage) -> float | None:
    """The median speed of a stage."""
    paces = [pace for r in stage.records if (pace := r.get("samples_per_second"))]
    return statistics.median(paces) if paces else None


def changes(run: Run) -> list[tuple[str, str, Table]]:
    """(stage before, stage, changes of the config) for each stage after the first."""
    return [
        (a.name, b.name, _differences(("setting", a.name, b.name), [a, b]))
        for a, b in pairwise(run.stages)
    ]


def between_runs(runs: Sequence[Run]) -> list[tuple[str, Table]]:
    """(stage, settings in which the runs differ) for each stage that several runs have."""
    names = dict.fromkeys(stage.name for run in runs for stage in run.stages)
    differences = []
    for name in names:
        having = [(run, stage) for run in runs for stage in run.stages if stage.name == name]
        if len(having) < 2:
            continue
        header = ("setting", *(run.label for run, _ in having))
        differences.append((name, _differences(header, [stage for _, stage in having])))
    return differences


def plan(run: Run) -> Table | None:
    """Planned and actual time of the stages that are in both; None without any."""
    stages = {stage.name: stage for stage in run.stages}
    rows = []
    for planned in (run.plan or {}).get("stages", ()):
        stage = stages.get(planned.get("stage"))
        if stage is not None:
            rows.append(_planned(planned, stage))
    header = (
        "stage",
        "step, planned",
        "step, actual",
        "actual / planned",
        "chip-hours, planned",
        "device-hours, actual",
        "remarks",
    )
    return Table(header, rows, (run.plan or {}).get("title", "")) if rows else None


def _planned(planned: dict[str, Any], stage: Stage) -> tuple[str, ...]:
    pace = samples_per_second(stage)
    actual = stage.batch_size / pace if pace else None
    step = planned.get("expected_step_seconds") or planned.get("step_seconds")
    chip_hours = planned.get("expected_chip_hours") or planned.get("chip_hours")
    environment = stage.environment or {}
    devices = environment.get("devices")
    hours = stage.seconds * devices / 3600 if devices else None
    sizes, remarks = stage.sizes, []
    if planned.get("batch") != stage.batch_size:
        remarks.append(f"planned for batch {format.count(planned.get('batch'))}")
    if sizes and planned.get("image_tokens") not in (None, sizes.image_tokens):
        remarks.append(f"planned for {planned['image_tokens']} image tokens")
    if sizes and planned.get("text_tokens") not in (None, sizes.text_tokens):
        remarks.append(f"planned for {planned['text_tokens']} text tokens")
    if devices:
        remarks.append(f"ran on {devices} x {environment.get('device')}")
    return (
        stage.name,
        _milliseconds(step),
        _milliseconds(actual),
        format.NONE if not actual or not step else f"{actual / step:.2f}",
        format.NONE if chip_hours is None else f"{chip_hours:,.3g}",
        format.NONE if hours is None else f"{hours:,.3g}",
        "; ".join(remarks),
    )


def environment(runs: Sequence[Run]) -> Table | None:
    """Versions, devices and processor: a column per distinct environment."""
    columns: list[tuple[list[str], dict[str, str]]] = []
    for run in runs:
        for stage in run.stages:
            shown = _environment(stage)
            if not shown:
                continue
            name = stage.name if len(runs) == 1 else f"{run.label}: {stage.name}"
            name += "" if stage.environment else " (of its evaluation)"
            same = next((names for names, known in columns if known == shown), None)
            if same is None:
                columns.append(([name], shown))
            else:
                same.append(name)
    if not columns:
        return None
    keys = dict.fromkeys(key for _, shown in columns for key in shown)
    rows = [(key, *(shown.get(key, format.NONE) for _, shown in columns)) for key in keys]
    return Table(("", *(", ".join(names) for names, _ in columns)), rows)


def _environment(stage: Stage) -> dict[str, str]:
    known = stage.environment or (stage.evaluation or {}).get("environment") or {}
    shown: dict[str, str] = {}
    for key, value in known.items():
        name = key.removesuffix("_bytes")
        if key.endswith("_bytes"):
            shown[name] = f"{value / 2**30:.1f} GiB" if value else format.NONE
        elif isinstance(value, dict):
            shown[name] = ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
        else:
            shown[name] = _plain(value)
    return shown


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else format.setting(value)


def _differences(header: tuple[str, ...], stages: Sequence[Stage]) -> Table:
    """The settings in which stages differ."""
    leaves = [workdir.leaves(stage.config) for stage in stages]
    keys = [key for key in dict.fromkeys(k for tree in leaves for k in tree) if key not in _NAMING]
    rows = [(key, *(format.setting(tree.get(key)) for tree in leaves)) for key in keys]
    return Table(header, [row for row in rows if len(set(row[1:])) > 1])


def _milliseconds(seconds: float | None) -> str:
    return format.NONE if seconds is None else f"{1e3 * seconds:,.1f} ms"
