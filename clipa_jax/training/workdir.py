"""The files of a workdir: one folder per stage, and files about all of them.

The constants below name these files. Not listed: the copy of the vocabulary
(`preprocess/vocab.py`), TensorBoard's event files (`metrics.py`), traces (`profiling.py`) and
`verify/`, which `benchmark/verify.py` removes. All processes use the same workdir; only process 0
writes these files.

Readers: `runs.py`, for reports, sweeps and model cards; a run that resumes, for its own files
(`stage.py`, `derive.py`, `checkpoint.py`, `spikes.py`); and `weights/kinds.py`, for weights and
their config.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from clipa_jax.config import schema
from clipa_jax.errors import DataError, UserError
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.files import Path, PathLike

# In the folder of a stage, W/<stage>/:
CONFIG = "config.json"  # the stage's config as it ran
RESULT = "result.json"  # present once the stage is finished
DATA = "data.json"  # the fingerprint of the training data
METRICS = "metrics.jsonl"  # see metrics.py
SPIKES = "spikes.jsonl"  # loss spikes and rollbacks: spikes.py
EVALUATION = "evaluation.json"  # the last evaluation, with evaluation.npz: evaluation/record.py
ENVIRONMENT = "environment.json"  # versions, devices and data: report/machine.py
HELD_OUT = "held_out.json"  # pictures and captions: evaluation/held_out.py
HELD_OUT_PICTURES, HELD_OUT_SHEET = "held_out.npz", "held_out.png"
CHECKPOINTS = "checkpoints"  # a folder: checkpoint.py; the vocabulary lies beside it
WANDB_RUN = "wandb_run_id"  # which a resumed stage continues
# In the workdir:
COMPILED = "cache/xla"  # a folder of compiled programs
SUMMARY = "summary.json"  # the results of the finished stages, in order
ACCURACY = "accuracy.png"
REPORT = "report.html"
DERIVED = "derived.json"  # the samples that follow from the time: derive.py
PLAN = "plan.json"  # from tools/plan.py --json
# In a folder of runs, from tools/sweeps/points.sh: the names of all runs, one per line.
POINTS = "points.txt"

# Keys that may change when a run is resumed: they do not change what it computes.
MAY_CHANGE = (
    "log_",
    "eval_",
    "evals",
    "root",
    "checkpoint",
    "logs.",
    "mesh.",
    "sharding.",
    "cpu_devices",
    "distributed.",
    "compilation_cache",
    "init",
    "microbatch",
    "on_nonfinite",
    "max_skips",
    "on_spike",
    "max_rollbacks",
    "input.max_skip_percent",
    "profile_steps",
    "compiler_options",
    "model.attention",
    "model.layers",
    "model.unroll",
    "model.image.remat",
    "model.text.remat",
)

SameValue = Callable[[str], bool]


def check_address(path: PathLike) -> None:
    """Raises `UserError` unless a workdir is a folder or gs://BUCKET/FOLDER."""
    kind, text = files.scheme(path), os.fspath(path)
    if kind not in ("", "gs") or (kind and not text.removeprefix("gs://").strip("/")):
        raise UserError(
            f"workdir {text} must be a folder or gs://BUCKET/FOLDER: Orbax writes checkpoints to "
            "no other address; mount the bucket instead, see docs/buckets.md"
        )


def claim(
    folder: Path, config: ConfigDict, is_same: SameValue = lambda key: False, data: str = ""
) -> None:
    """Makes the stage's folder, or checks that it holds the same experiment.

    Raises `UserError` if the folder cannot be written, is not the same for all processes, or holds
    another experiment, see `check_same`. `data` is the fingerprint of the training data.
    """
    check_address(folder)
    probe = folder / f".writable-{os.getpid()}-{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(probe, b"")
    except Exception as error:  # noqa: BLE001, each storage has errors of its own
        why = files.reason(error)
        if isinstance(error, FileNotFoundError) and files.scheme(folder):
            bucket = os.fspath(folder).split("/")[2]
            why = f"there is no bucket {bucket}, or it may not be seen ({why})"
        elif "Forbidden" in why:
            why += ". The account needs roles/storage.objectUser on the bucket, see docs/buckets.md"
        raise UserError(f"workdir {folder} cannot be written: {why}") from None
    name = distributed.from_first(probe.name)
    shared = (folder / name).exists()
    _ = distributed.from_all(shared)  # all have looked before a probe is removed
    probe.unlink(missing_ok=True)
    if not shared:
        raise UserError(
            f"workdir {folder} is another folder for process {jax.process_index()} than for "
            "process 0; several processes need a --workdir that all of them share"
        )
    check_same(folder, config, is_same)
    if distributed.first():
        files.write_json(folder / CONFIG, to_json(config))
        files.write_json(folder / DATA, {"fingerprint": data})


def check_same(folder: Path, config: ConfigDict, is_same: SameValue = lambda key: False) -> None:
    """Raises `UserError` if the folder holds another experiment; changes nothing.

    `is_same` is asked whether a key means the same although its value differs, as the path of data
    that was moved. The message names the first keys that differ.
    """
    file = folder / CONFIG
    if not files.exists(file):
        return
    old, new = leaves(read_config(file)), leaves(complete(to_json(config)))
    values = {key: (old.get(key), new.get(key)) for key in sorted({*old, *new})}
    differ = [
        f"{key} is {before!r} there and {now!r} here"
        for key, (before, now) in values.items()
        if before != now and not key.startswith(MAY_CHANGE) and not is_same(key)
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"workdir {folder} holds another experiment: {'; '.join(differ[:3])}{more}. "
            "Use another --workdir, or the same config"
        )


def read_config(file: Path) -> dict[str, Any]:
    """The config of a stage that some version recorded, `complete`; `DataError` if it is none."""
    recorded = files.read_json(file)
    if not isinstance(recorded, dict):
        raise DataError(f"{file} holds no object")
    return complete(recorded)


def complete(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config with every key of the schema.

    Keys that are newer than the record get their default, which keeps the old behavior.
    """
    return _merged(recorded, to_json(schema.default()))


def _merged(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with those of `defaults` for keys that they lack."""
    sections = {
        key: _merged(value, defaults[key])
        for key, value in values.items()
        if isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping)
    }
    return {**defaults, **values, **sections}


def finish(folder: Path, result: dict[str, Any]) -> None:
    """Records the result of a finished stage."""
    if distributed.first():
        files.write_json(folder / RESULT, result)


def result(folder: Path) -> dict[str, Any] | None:
    """The result of a stage, or None while it is not finished."""
    return files.read_json(folder / RESULT) if files.exists(folder / RESULT) else None


def is_finished(folder: Path) -> bool:
    """Whether process 0 sees a result of the stage; the same on every process."""
    return distributed.from_first(result(folder) is not None)


def write_summary(root: Path, stages: list[str]) -> dict[str, Any]:
    """Writes W/summary.json from the finished stages, in the given order.

    Stages that finished in earlier runs stay in it, before the given ones.
    """
    known = stages_in(root)
    order = [name for name in known if name not in stages] + [n for n in stages if n in known]
    summary = {"stages": [files.read_json(root / name / RESULT) for name in order]}
    if distributed.first():
        files.write_json(root / SUMMARY, summary)
    return summary


def stages_in(root: Path) -> list[str]:
    """The finished stages of a workdir, oldest result first."""
    results = sorted(root.glob(f"*/{RESULT}"), key=files.modified)
    return [file.parent.name for file in results]


def to_json(config: ConfigDict) -> Any:
    """A config as JSON holds it."""
    return json.loads(config.to_json_best_effort())


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by their full keys, such as "optim.b2"."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= leaves(value, f"{prefix}.{key}" if prefix else key)
    return values
