"""The content of the page's tables: rows of text, made from runs."""

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from clipa_jax.runs import Run, Stage
from clipa_jax.runtime import format
from clipa_jax.training import workdir
from clipa_jax.training.records import LOST


class Table(NamedTuple):
    """A header and rows of cells; the first column names the rows."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""

    @classmethod
    def of(cls, rows: Sequence[dict[str, str]], caption: str = "") -> "Table":
        """The table of one or more rows, given as cells by column."""
        return cls(tuple(rows[0]), [tuple(row.values()) for row in rows], caption)


class Bar(NamedTuple):
    """One measure and its division among the stages."""

    measure: str
    total: str
    parts: list[dict[str, Any]]


def schedule(run: Run) -> Table:
    """The stages as they ran."""
    return Table.of([*map(_scheduled, run.stages)])


def _scheduled(stage: Stage) -> dict[str, str]:
    inputs, sizes, result = stage.config["input"], stage.sizes, stage.result or {}
    image_tokens = result.get("image_tokens") or (sizes.image_tokens if sizes else None)
    return {
        "stage": stage.name if stage.result else f"{stage.name} (not finished)",
        "pixels": f"{inputs['res']}",
        "image tokens": format.count(image_tokens),
        "text tokens": format.count(inputs["text_len"]),
        "samples": format.count(stage.samples),
        "batch": format.count(stage.batch_size),
        "steps": format.count(stage.samples / stage.batch_size),
        "peak rate": format.rate(stage.peak_lr),
        "time": format.duration(stage.seconds),
        "FLOPs": format.short(stage.flops),
    }


def bars(run: Run) -> list[Bar]:
    """The division of samples, time and FLOPs among the stages."""
    measures: tuple[tuple[str, list[Any], Callable[[float], str]], ...] = (
        ("samples", [stage.samples for stage in run.stages], format.short),
        ("training time", [stage.seconds for stage in run.stages], format.duration),
        ("training FLOPs", [stage.flops for stage in run.stages], format.short),
    )
    bars = []
    for measure, values, show in measures:
        if None not in values:
            shares = [value / (sum(values) or 1.0) for value in values]
            parts = [
                {"stage": stage.name, "index": i, "share": x, "percent": format.percent(x, 0)}
                for i, (stage, x) in enumerate(zip(run.stages, shares, strict=True))
            ]
            bars.append(Bar(measure, show(sum(values)), parts))
    return bars


def speed(run: Run) -> Table:
    """Seconds, speed, waiting times and skipped samples."""
    return Table.of([_speed(stage) for stage in run.stages])


def _speed(stage: Stage) -> dict[str, str]:
    pace = samples_per_second(stage)
    waits = [r["input_wait_share"] for r in stage.records if "input_wait_share" in r]
    flops = None if pace is None or stage.sample_flops is None else pace * stage.sample_flops
    dropped = max((r.get("skipped_updates", 0) for r in stage.records), default=0)
    return {
        "stage": stage.name,
        "training": format.duration(stage.seconds),
        "evaluation": format.duration(max(stage.wall_seconds - stage.seconds, 0.0)),
        "samples/s": format.count(pace),
        "per chip": format.significant(_last(stage, "samples_per_second_per_chip"), format.NONE),
        "MFU": format.percent(_last(stage, "mfu")),
        "device memory": format.memory(_last(stage, "device_memory_bytes")),
        "model FLOP/s": format.short(flops),
        "waiting for input": format.percent(statistics.fmean(waits) if waits else None),
        "skipped samples": format.count(sum(stage.skipped.values())),
        "skipped updates": format.count(dropped),
        "loss spikes": format.count(len(stage.spikes)),
        "rollbacks": format.count(sum(bool(spike["left_out"]) for spike in stage.spikes)),
    }


def goodput(run: Run) -> Table | None:
    """The shares of the wall time that steps took and that was lost, by cause; None if unknown."""
    rows = []
    for stage in run.stages:
        last = next((record for record in stage.records[::-1] if "goodput" in record), {})
        lost = {k.removeprefix(LOST): v for k, v in last.items() if k.startswith(LOST)}
        shares = {"in steps": last.get("goodput"), **lost}
        if last:
            rows.append({"stage": stage.name, **{k: format.percent(v) for k, v in shares.items()}})
    return Table.of(rows) if rows else None


def _last(stage: Stage, key: str) -> float | None:
    """The last value of a metric."""
    return next((v for record in stage.records[::-1] if (v := record.get(key)) is not None), None)


def skipped(run: Run) -> Table | None:
    """Samples that could not be used, by reason; None where there were none."""
    reasons = sorted({reason for stage in run.stages for reason in stage.skipped})
    if not reasons:
        return None
    rows = [
        (name.replace("_", " "), *(format.count(s.skipped.get(name, 0)) for s in run.stages))
        for name in reasons
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
    having: dict[str, dict[str, Stage]] = {}
    for run in runs:
        for stage in run.stages:
            having.setdefault(stage.name, {})[run.label] = stage
    return [
        (name, _differences(("setting", *stages), list(stages.values())))
        for name, stages in having.items()
        if len(stages) > 1
    ]


def _differences(header: tuple[str, ...], stages: Sequence[Stage]) -> Table:
    """The settings in which stages differ."""
    leaves = [workdir.leaves(stage.config) for stage in stages]
    keys = dict.fromkeys(key for tree in leaves for key in tree if key not in ("name", "after"))
    rows = [(key, *(format.setting(tree.get(key)) for tree in leaves)) for key in keys]
    return Table(header, [row for row in rows if len(set(row[1:])) > 1])


def plan(run: Run) -> Table | None:
    """Planned and actual time of the stages that are in both; None without any."""
    stages = {stage.name: stage for stage in run.stages}
    plan = run.plan or {"stages": []}
    both = [planned for planned in plan["stages"] if planned.get("stage") in stages]
    rows = [_planned(planned, stages[planned["stage"]]) for planned in both]
    return Table.of(rows, plan.get("title", "")) if rows else None


def _planned(planned: dict[str, Any], stage: Stage) -> dict[str, str]:
    pace = samples_per_second(stage)
    actual = stage.batch_size / pace if pace else None
    step = planned.get("expected_step_seconds") or planned.get("step_seconds")
    chip_hours = planned.get("expected_chip_hours") or planned.get("chip_hours")
    devices = (stage.environment or {}).get("devices")
    hours = stage.seconds * devices / 3600 if devices else None
    return {
        "stage": stage.name,
        "step, planned": _milliseconds(step),
        "step, actual": _milliseconds(actual),
        "actual / planned": format.NONE if not actual or not step else f"{actual / step:.2f}",
        "chip-hours, planned": format.number(chip_hours, ",.3g", format.NONE),
        "device-hours, actual": format.number(hours, ",.3g", format.NONE),
        "remarks": "; ".join(_remarks(planned, stage)),
    }


def _remarks(planned: dict[str, Any], stage: Stage) -> list[str]:
    """The differences between a plan and what ran."""
    remarks, sizes = [], stage.sizes
    if planned.get("batch") != stage.batch_size:
        remarks.append(f"planned for batch {format.count(planned.get('batch'))}")
    if sizes and planned.get("image_tokens") not in (None, sizes.image_tokens):
        remarks.append(f"planned for {planned['image_tokens']} image tokens")
    if sizes and planned.get("text_tokens") not in (None, sizes.text_tokens):
        remarks.append(f"planned for {planned['text_tokens']} text tokens")
    environment = stage.environment or {}
    if environment.get("devices"):
        remarks.append(f"ran on {environment['devices']} x {environment.get('device')}")
    return remarks


def environment(runs: Sequence[Run]) -> Table | None:
    """Versions, devices and processor: a column per distinct environment."""
    columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        for stage in run.stages:
            name = stage.name if len(runs) == 1 else f"{run.label}: {stage.name}"
            name += "" if stage.environment else " (of its evaluation)"
            if shown := _environment(stage):
                columns.setdefault(tuple(shown.items()), []).append(name)
    keys = dict.fromkeys(key for shown in columns for key, _ in shown)
    rows = [(key, *(dict(shown).get(key, format.NONE) for shown in columns)) for key in keys]
    return Table(("", *map(", ".join, columns.values())), rows) if rows else None


def _environment(stage: Stage) -> dict[str, str]:
    known = stage.environment or (stage.evaluation or {}).get("environment") or {}
    shown: dict[str, str] = {}
    if known:
        first = {key: known.get(key) for key in ("command", "commit", "clipa_jax")}
        known = {**first, "seed": stage.config["seed"], **known}
    for key, value in known.items():
        name = key.removesuffix("_bytes")
        if value is None:
            continue
        if key.endswith("_bytes"):
            shown[name] = f"{value / 2**30:.1f} GiB"
        elif isinstance(value, dict):
            shown[name] = ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
        else:
            shown[name] = _plain(value)
    return shown


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else format.setting(value)


def _milliseconds(seconds: float | None) -> str:
    return format.NONE if seconds is None else f"{1e3 * seconds:,.1f} ms"
