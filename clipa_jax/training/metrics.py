"""Metrics of a run, written as JSONL, for TensorBoard and for Weights & Biases.

Only process 0 writes.
"""

import importlib
import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from tensorboard.summary import Writer as EventWriter

from clipa_jax import trees
from clipa_jax.errors import ConfigError, UserError
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.files import Path, PathLike
from clipa_jax.runtime.format import table
from clipa_jax.training import records
from clipa_jax.training.mirror import Mirror
from clipa_jax.training.records import SECONDS, STEP
from clipa_jax.training.workdir import METRICS, WANDB_RUN


@dataclass(frozen=True)
class Logs:
    """Destinations of metrics besides metrics.jsonl; the keys of `schema.logs`."""

    tensorboard: bool
    wandb_project: str
    wandb_entity: str
    wandb_name: str
    wandb_mode: str


class Writer:
    """Writes metrics of one stage to metrics.jsonl, and optionally elsewhere.

    Each `write` appends one line, see `records`, and flushes it, so that a killed run loses
    nothing. `seconds` is the wall time of the stage, continued over resumes. Values that are not
    finite are null. Records after `start_step`, from which the run starts or resumes, are dropped.

    The key of W&B comes from the environment or from `wandb login`. Raises `ConfigError` if W&B is
    not installed or its mode is unknown, `UserError` if the workdir cannot be written.
    """

    def __init__(
        self,
        workdir: PathLike,
        logs: Logs,
        *,
        start_step: int = 0,
        run_config: Mapping[str, Any] | None = None,
    ):
        self._file: TextIO | None = None
        self._events: EventWriter | None = None
        self._wandb: Any = None
        self._elapsed_before, self._started = 0.0, time.monotonic()
        if not distributed.first():
            return
        self._workdir = Path(workdir)
        try:
            files.make_folder(workdir)
            self._mirror = Mirror(self._workdir)
            file = self._mirror.folder / METRICS
            self._elapsed_before = _copy_until(self._workdir / METRICS, file, start_step)
            self._file = file.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise self._cannot_be_written(error) from None
        if logs.tensorboard:
            self._events = EventWriter(str(self._mirror.folder))
        if logs.wandb_project:
            self._wandb = _start_wandb(
                logs,
                self._workdir,
                dir=str(self._mirror.folder),
                config=dict(run_config or {}),
            )

    @property
    def seconds(self) -> float:
        """Wall seconds of this stage, without the time between a stop and a resume."""
        return self._elapsed_before + time.monotonic() - self._started

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Records scalars of a step; device arrays are fetched."""
        if self._file is None:
            return
        scalars = {name: float(np.asarray(value)) for name, value in values.items()}
        record: dict[str, Any] = {STEP: int(step), SECONDS: round(self.seconds, 3)}
        record |= {name: x if math.isfinite(x) else None for name, x in scalars.items()}
        self._file.write(json.dumps(record) + "\n")
        if self._events is not None:
            for name, scalar in scalars.items():
                self._events.add_scalar(name, scalar, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def flush(self) -> None:
        """Brings everything into the workdir; `UserError` if that cannot be written."""
        if self._file is None:
            return
        if self._events is not None:
            self._events.flush()
        try:
            self._mirror.flush()
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def _cannot_be_written(self, error: OSError) -> UserError:
        return UserError(
            f"workdir {self._workdir} cannot be written: {files.reason(error)}. The last "
            "checkpoint is kept; run the same command again to resume"
        )

    def close(self) -> None:
        """Flushes and closes; the writer cannot be used afterwards."""
        if self._file is None:
            return
        self._file.close()
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()
        try:
            self._mirror.close()
        except OSError as error:
            raise self._cannot_be_written(error) from None
        finally:
            self._file = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _copy_until(path: Path, copy: PathLike, start_step: int) -> float:
    """Copies the records up to `start_step`; returns the seconds of the last one."""
    if not files.exists(path):
        return 0.0
    kept = [record for record in records.whole(path) if record[STEP] <= start_step > 0]
    files.write_text(copy, "".join(json.dumps(record) + "\n" for record in kept))
    return max((record.get(SECONDS, 0.0) for record in kept), default=0.0)


def _start_wandb(logs: Logs, workdir: Path, **settings: Any) -> Any:
    if logs.wandb_mode not in ("online", "offline"):
        raise ConfigError(f"wandb_mode={logs.wandb_mode!r} must be 'online' or 'offline'")
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise ConfigError(
            f"wandb_project={logs.wandb_project!r} needs the package wandb, which is not "
            "installed; install it, or set wandb_project=''"
        ) from None
    id_file = workdir / WANDB_RUN
    if not id_file.exists():
        files.write_text(id_file, uuid.uuid4().hex[:8])
    run_id = files.read_text(id_file).strip()
    return wandb.init(
        project=logs.wandb_project,
        entity=logs.wandb_entity or None,
        name=logs.wandb_name or files.absolute(workdir).name,
        mode=logs.wandb_mode,
        id=run_id,
        resume="allow",
        **settings,
    )


def parameter_overview(params: Any) -> str:
    """A table of a tree of arrays or shapes: names, shapes, counts, and the total.

    Leaves whose names differ only in the number of a block share a row: `encoderblock_{0..31}`.
    """
    groups: dict[tuple[str, tuple[int, ...], str], list[tuple[int, int]]] = {}
    for name, leaf in trees.flatten(params).items():
        number = re.search(r"(?<=block_)\d+", name)
        stem = name if number is None else f"{name[: number.start()]}{{}}{name[number.end() :]}"
        key = (stem, tuple(leaf.shape), str(leaf.dtype))
        groups.setdefault(key, []).append((int(number.group()) if number else 0, leaf.size))
    rows: list[tuple[str, ...]] = [("parameter", "shape", "dtype", "count")]
    for (stem, shape, dtype), members in groups.items():
        numbers = [number for number, _ in members]
        span = f"{{{min(numbers)}..{max(numbers)}}}" if len(numbers) > 1 else str(numbers[0])
        size = "x".join(map(str, shape)) or "()"
        shown = f"{len(members)} * {size}" if len(members) > 1 else size
        count = sum(size for _, size in members)
        rows.append((stem.replace("{}", span), shown, dtype, f"{count:,}"))
    rows.append(("total", "", "", f"{trees.count(params):,}"))
    return table(rows, right=(1, 3))
