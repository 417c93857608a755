"""What lies in a workdir: a folder a stage, and the summary of all of them.

W/<stage>/config.json      the stage's config as it ran
W/<stage>/vocab.txt        its vocabulary (or vocab.model), so that the folder can be moved
W/<stage>/checkpoints/     see checkpoint.py
W/<stage>/metrics.jsonl    see metrics.py
W/<stage>/result.json      once the stage is finished
W/<stage>/evaluation.json  its last evaluation with intervals, and .npz beside it: evidence/
W/summary.json             the results of the finished stages, in order
W/cache/xla/               compiled programs

On several processes all of them see the same workdir, and process 0 alone writes these files.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipa_jax.errors import UserError
from clipa_jax.runtime import distributed

CONFIG, RESULT, SUMMARY = "config.json", "result.json", "summary.json"

# Keys that may change when a run goes on: they alter how it runs, not what it computes.
MAY_CHANGE = (
    "log_",
    "eval_",
    "evals.",
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
    "model.attention",
    "model.layers",
    "model.image.remat",
    "model.text.remat",
)


def claim(folder: Path, config: ConfigDict) -> None:
    """Makes the stage's folder, or checks that it holds the same experiment.

    Raises:
      UserError: the folder cannot be written, is not the same for all processes, or it holds
        another experiment; the message names the first keys that differ.
    """
    if folder.parts and folder.parts[0].endswith(":"):
        raise UserError(
            f"workdir {folder} is an address, not a folder; mount the bucket, see TPU_USAGE.md"
        )
    probe = folder / f".writable-{os.getpid()}-{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise UserError(f"workdir {folder} cannot be written: {error.strerror}") from None
    name = distributed.from_first(probe.name)
    shared = (folder / name).exists()
    _ = distributed.from_all(shared)  # nobody takes its probe away before all have looked
    probe.unlink(missing_ok=True)
    if not shared:
        raise UserError(
            f"workdir {folder} is another folder for process {jax.process_index()} than for "
            "process 0; several processes need a --workdir that all of them share"
        )
    check_same(folder, config)
    if distributed.first():
        write_json(folder / CONFIG, to_json(config))


def check_same(folder: Path, config: ConfigDict) -> None:
    """Raises `UserError` if the folder holds another experiment; changes nothing."""
    file = folder / CONFIG
    if not file.exists():
        return
    there, here = leaves(read_json(file)), leaves(to_json(config))
    differ = [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted(set(there) | set(here))
        if there.get(key) != here.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"workdir {folder} holds another experiment: {'; '.join(differ[:3])}{more}. "
            "Use another --workdir, or the same config"
        )


def finish(folder: Path, result: dict[str, Any]) -> None:
    """Records the result of a finished stage."""
    if distributed.first():
        write_json(folder / RESULT, result)


def result(folder: Path) -> dict[str, Any] | None:
    """The result of a stage, or None while it is not finished."""
    return read_json(folder / RESULT) if (folder / RESULT).exists() else None


def is_finished(folder: Path) -> bool:
    """Whether process 0 sees a result of the stage; the same on every process."""
    return distributed.from_first(result(folder) is not None)


def write_summary(root: Path, stages: list[str]) -> dict[str, Any]:
    """Writes W/summary.json from the finished stages, in the given order.

    Stages that finished in earlier runs stay in it, before the given ones.
    """
    known = stages_in(root)
    order = [name for name in known if name not in stages] + [n for n in stages if n in known]
    summary = {"stages": [read_json(root / name / RESULT) for name in order]}
    if distributed.first():
        write_json(root / SUMMARY, summary)
    return summary


def stages_in(root: Path) -> list[str]:
    """The finished stages of a workdir, oldest result first."""
    files = sorted(root.glob(f"*/{RESULT}"), key=lambda file: file.stat().st_mtime_ns)
    return [file.parent.name for file in files]


def to_json(config: ConfigDict) -> Any:
    """A config as JSON holds it."""
    return json.loads(config.to_json_best_effort())


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); move it away") from None


def write_json(file: Path, content: Any) -> None:
    """Writes JSON so that a kill leaves the old file or the new one, never a torn one."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(file)


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by their full keys, such as "optim.b2"."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else key)
    return found
