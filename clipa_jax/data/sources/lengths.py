"""Lengths of shards from what their makers wrote beside them, so that no shard is read for them.

sizes.json             of webdatasets: {"00000.tar": 10000, ...}
shardindex.json        of wids: {"shardlist": [{"url": "00000.tar", "nsamples": 10000}, ...]}
00000_stats.json       of img2dataset, one a shard: {"successes": 9874, ...}
"""

import concurrent.futures
import json
import os
from collections.abc import Sequence
from typing import Any

from clipa_jax.runtime import storage

_SIZES, _WIDS, _STATS = "sizes.json", "shardindex.json", "_stats.json"


def recorded(paths: Sequence[str]) -> dict[str, int]:
    """The lengths of the files that have one on record."""
    known: dict[str, int] = {}
    for folder in sorted(set(map(os.path.dirname, paths))):
        sizes = _of_folder(folder)
        inside = [path for path in paths if os.path.dirname(path) == folder]
        known |= {path: sizes[name] for path in inside if (name := os.path.basename(path)) in sizes}
        if not sizes and _exists_stats(inside[0]):
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                counts = pool.map(lambda path: _count(_document(_stats(path)), "successes"), inside)
                known |= {p: n for p, n in zip(inside, counts, strict=True) if n is not None}
    return known


def _of_folder(folder: str) -> dict[str, int]:
    """Lengths by name, from a file about the whole folder."""
    sizes = _document(os.path.join(folder, _SIZES))
    if isinstance(sizes, dict):
        return {name: n for name in sizes if (n := _count(sizes, name)) is not None}
    index = _document(os.path.join(folder, _WIDS))
    shards = index.get("shardlist", []) if isinstance(index, dict) else []
    counts = {os.path.basename(str(s.get("url"))): _count(s, "nsamples") for s in shards}
    return {name: n for name, n in counts.items() if n is not None}


def _exists_stats(path: str) -> bool:
    return storage.exists(_stats(path))


def _stats(path: str) -> str:
    return os.path.splitext(path)[0] + _STATS


def _document(path: str) -> Any:
    try:
        return json.loads(storage.read(path))
    except (OSError, ValueError):
        return None


def _count(document: Any, key: str) -> int | None:
    count = document.get(key) if isinstance(document, dict) else None
    return count if isinstance(count, int) and count >= 0 else None
