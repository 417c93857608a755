"""What a stage ran on and with: saved at its end, since nothing else remembers it."""

import importlib.metadata
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from clipa_jax import __version__
from clipa_jax.evaluators import identity
from clipa_jax.stage import Stage

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow")


def describe(run: Stage) -> dict[str, Any]:
    """Versions, devices, processor and training data of a stage, ready for JSON."""
    kinds = Counter(device.device_kind for device in jax.devices())
    source = run.data.source
    shards = [f"{shard.name} {shard.length}" for shard in source.shards]
    return {
        "versions": {
            "clipa_jax": __version__,
            "python": platform.python_version(),
            **{name: version for name in PACKAGES if (version := _version(name))},
        },
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "backend": jax.default_backend(),
        "devices": [{"kind": kind, "count": count} for kind, count in sorted(kinds.items())],
        "processes": jax.process_count(),
        "mesh": dict(run.program.mesh.shape),
        "data": {
            "source": str(source.spec),
            "split": source.split,
            "num_examples": run.data.num_examples,
            "fingerprint": identity.of_texts(shards),
        },
    }


def processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as well as the machine tells it."""
    if table.exists():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> int | None:
    """Bytes of the machine; None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
