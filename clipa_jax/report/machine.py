"""The environment of a stage: saved at its end, as no other file records it."""

import os
import platform
from pathlib import Path
from typing import Any

from clipa_jax.evaluation import record
from clipa_jax.evaluators import data_fingerprint
from clipa_jax.training.stage import Stage


def describe(run: Stage) -> dict[str, Any]:
    """Versions, devices, processor and training data of a stage, ready for JSON."""
    source = run.data.source
    shards = [f"{shard.name} {shard.length}" for shard in source.shards]
    return {
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
