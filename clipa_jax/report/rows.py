"""A row per finished stage below a folder: settings, costs and scores, as a table in CSV.

A table can be read back, so that measurements can be kept, and plotted again, without the runs.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipa_jax.errors import DataError
from clipa_jax.evaluation import comparability
from clipa_jax.runs import Stage
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir

COSTS = ("samples", "seconds", "flops", "total_samples", "total_seconds", "total_flops")
SIZES = ("image_tokens", "text_tokens", "num_params")
# Config keys that a CSV always has; others where they differ between its rows.
ALWAYS = ("input.batch_size", *comparability.OF_LAW)
CONFIG, DATA, LOW, HIGH = "config.", "data.", ".low", ".high"


@dataclass(frozen=True)
class Row:
    """A finished stage of a run, which is named by its path below the folder that was searched.

    Attributes:
      own: its config by full key, such as "optim.b2", and the sizes in `SIZES`.
      earlier: the same of the stages that it continues, as "<stage>.<key>".
      costs: by the names in `COSTS`, None where unknown; totals count from the first stage.
      data: facts on its training and its evaluations, see `comparability`.
      scores, intervals: by `<evaluator>/<metric>`; (low, high) where the evaluation gave them.
    """

    run: str
    stage: str
    own: Mapping[str, Any]
    earlier: Mapping[str, Any]
    costs: Mapping[str, float | None]
    data: Mapping[str, str | None]
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def before(self) -> tuple[str, ...]:
        """Names of the stages that it continues."""
        return tuple(dict.fromkeys(key.partition(".")[0] for key in self.earlier))

    @property
    def keys(self) -> dict[str, Any]:
        """All settings, of this stage and of those before."""
        return {**self.earlier, **self.own}

    def first(self, key: str) -> Any:
        """A key of the first stage of the chain that this one ends; None where it has none."""
        before = self.before
        return self.earlier.get(f"{before[0]}.{key}") if before else self.own.get(key)

    def bare(self, key: str) -> str:
        """`pretrain.optim.b2` -> `optim.b2`, where pretrain is a stage before this one."""
        stage, _, rest = key.partition(".")
        return rest if stage in self.before else key


def of_stage(run: str, stage: Stage, rows: Mapping[str, Row]) -> Row:
    """The row of a finished stage; `rows` are those of the run's earlier stages, by name."""
    result: Mapping[str, Any] = stage.result or {}
    after, init = stage.config.get("after") or "", stage.config.get("init") or ""
    before = None if init else rows.get(after)
    from_scratch = init == "scratch" or not (init or after)
    own = workdir.leaves(stage.config) if stage.config else {}
    earlier = {}
    if before is not None:
        earlier = {**before.earlier, **{f"{before.stage}.{k}": v for k, v in before.own.items()}}
    own |= {key: result[key] for key in SIZES}
    costs: dict[str, float | None] = {
        "samples": result["samples_seen"],
        "seconds": result["seconds"],
        "flops": stage.flops,
    }
    for key, spent in list(costs.items()):
        past = 0 if from_scratch else before.costs[f"total_{key}"] if before else None
        costs[f"total_{key}"] = None if spent is None or past is None else spent + past
    data = stage.training_facts
    scores, intervals = {}, {}
    for name, metrics in stage.scores.items():
        data |= stage.facts(name)
        for metric, score in metrics.items():
            if score.value is not None:
                scores[f"{name}/{metric}"] = score.value
            if score.low is not None and score.high is not None:
                intervals[f"{name}/{metric}"] = (score.low, score.high)
    return Row(run, stage.name, own, earlier, costs, data, scores, intervals)


def varying(rows: Sequence[Row]) -> list[str]:
    """Keys that differ between rows of one stage, own ones first.

    Of keys that differ in the same way, such as the seeds of two stages, the first one.
    """
    keys: dict[str, None] = {}
    for stage in dict.fromkeys(row.stage for row in rows):
        of_stage = [row for row in rows if row.stage == stage]
        columns: set[tuple[str, ...]] = set()
        candidates = dict.fromkeys(key for row in of_stage for key in row.own)
        candidates |= dict.fromkeys(key for row in of_stage for key in row.earlier)
        for key in candidates:
            column = tuple(repr(row.keys.get(key)) for row in of_stage)
            if len(set(column)) > 1 and column not in columns:
                columns.add(column)
                keys[key] = None
    return list(keys)


def save(rows: Sequence[Row], file: Path) -> None:
    """Writes rows as CSV, without config keys that are the same everywhere."""
    keys = _config_keys(rows)
    cells = [_cells(row, keys) for row in rows]
    data = sorted({DATA + key for row in rows for key in row.data})
    scores = sorted({key for row in rows for key in row.scores})
    ranges = sorted({key for row in rows for key in row.intervals})
    header = ["run", "stage", *(CONFIG + key for key in keys), *SIZES, *COSTS, *data, *scores]
    header += [key + end for key in ranges for end in (LOW, HIGH)]
    files.make_folder(file.parent)
    out = io.StringIO()
    writer = csv.DictWriter(out, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    files.write_text(file, out.getvalue())


def _cells(row: Row, keys: Sequence[str]) -> dict[str, str]:
    """The cells of a row by column."""
    values: dict[str, Any] = {CONFIG + key: row.keys.get(key) for key in keys}
    values |= {key: row.own.get(key) for key in SIZES} | {**row.costs, **row.scores}
    for key, (low, high) in row.intervals.items():
        values |= {key + LOW: low, key + HIGH: high}
    plain = {DATA + key: value or "" for key, value in row.data.items()}
    cells = {key: _cell(value) for key, value in values.items()}
    return {"run": row.run, "stage": row.stage} | plain | cells


def _config_keys(rows: Sequence[Row]) -> list[str]:
    """Keys that are written, those of each stage together, in the order of the stages."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row.before))
    keys = [*ALWAYS, *varying(rows)]
    keys += [f"{stage}.{key}" for stage in stages for key in (*ALWAYS, *SIZES)]
    known = {key for row in rows for key in row.keys} - set(SIZES)
    keys = [key for key in dict.fromkeys(keys) if key in known]
    own = [key for key in keys if key.partition(".")[0] not in stages]
    return own + [key for stage in stages for key in keys if key.partition(".")[0] == stage]


def load(file: Path) -> list[Row]:
    """Reads what `save` wrote; `DataError` if the file is not such a table."""
    try:
        records = list(csv.DictReader(io.StringIO(files.read_text(file), newline="")))
        return [_from_cells(record) for record in records]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(
            f"{file} is not a table that tools/collect.py wrote ({error!r}); give a folder with "
            "runs below it, or such a table"
        ) from None


def _from_cells(record: Mapping[str, str]) -> Row:
    values = {key: _value(cell) for key, cell in record.items()}
    config = {k.removeprefix(CONFIG): v for k, v in values.items() if k.startswith(CONFIG)}
    config = {key: v for key, v in config.items() if v is not None}
    before = {key.removesuffix(".seed") for key in config if key.endswith(".seed")}
    earlier = {key: v for key, v in config.items() if key.partition(".")[0] in before}
    own = {key: v for key, v in config.items() if key not in earlier}
    scores = {k: v for k, v in values.items() if "/" in k and not k.endswith((LOW, HIGH))}
    return Row(
        run=record["run"],
        stage=record["stage"],
        own=own | {key: values[key] for key in SIZES},
        earlier=earlier,
        costs={key: values[key] for key in COSTS},
        data={k.removeprefix(DATA): v or None for k, v in record.items() if k.startswith(DATA)},
        scores={k: v for k, v in scores.items() if v is not None},
        intervals={
            key: (values[key + LOW], values[key + HIGH])
            for key in scores
            if values.get(key + LOW) is not None and values.get(key + HIGH) is not None
        },
    )


def _cell(value: Any) -> str:
    """A value as a cell from which `_value` makes the same value."""
    if value is None:
        return ""
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(value)


def _value(cell: str) -> Any:
    if cell == "":
        return None
    try:
        return json.loads(cell)
    except ValueError:
        return cell
