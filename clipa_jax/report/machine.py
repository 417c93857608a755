"""The environment of a stage: its command, code, machine and data, saved as it begins."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import clipa_jax
from clipa_jax.evaluation import record
from clipa_jax.evaluators import data_fingerprint
from clipa_jax.runtime import distributed, files
from clipa_jax.training import workdir
from clipa_jax.training.stage import Stage

_QUIET: Any = {"capture_output": True, "text": True, "timeout": 10, "check": False}


def save(run: Stage) -> None:
    """Writes W/<stage>/environment.json, on process 0."""
    if distributed.first():
        files.write_json(run.folder / workdir.ENVIRONMENT, describe(run))


def describe(run: Stage) -> dict[str, Any]:
    """Command, code, versions, devices and training data of a stage, ready for JSON."""
    source = run.data.source
    shards = [f"{shard.name} {shard.length}" for shard in source.shards]
    return {
        "command": command(),
        "commit": commit(),
        **record.environment(run.program.mesh),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "data": {
            "source": str(source.spec),
            "split": source.split,
            "num_examples": run.data.num_examples,
            "fingerprint": data_fingerprint.of_texts(shards),
        },
    }


def commit(folder: Path = Path(clipa_jax.__file__).parents[1]) -> str | None:
    """The git commit of a checkout, with `-dirty` after changes; None for an installed package."""
    git = ["git", "-C", str(folder)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], **_QUIET).stdout.strip()
        if not top or Path(top).resolve() != folder.resolve():
            return None
        return subprocess.run(describe, **_QUIET).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def command() -> str:
    """The command line: of `python -m clipa_jax.train`, or of a console script."""
    main = sys.modules["__main__"].__spec__
    program = ["python", "-m", main.name] if main else [Path(sys.argv[0]).name]
    return shlex.join([*program, *sys.argv[1:]])


def processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as far as the system reports it."""
    if table.exists():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    """Bytes of memory; None where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
