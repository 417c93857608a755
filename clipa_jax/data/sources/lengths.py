"""Lengths of shards from what their makers wrote beside them, so that no shard is read for them.

sizes.json             of webdatasets: {"00000.tar": 10000, ...}
shardindex.json        of wids: {"shardlist": [{"url": "00000.tar", "nsamples": 10000}, ...]}
00000_stats.json       of img2dataset, one a shard: {"successes": 9874, ...}
"""

import json
import os
from typing import Any

from clipa_jax.runtime import storage

_SIZES, _WIDS, _STATS = "sizes.json", "shardindex.json", "_stats.json"


def of_folder(folder: str) -> dict[str, int]:
    """Lengths by the names of files, from a record about the whole folder."""
    sizes = document(os.path.join(folder, _SIZES))
    if not isinstance(sizes, dict):
        index = document(os.path.join(folder, _WIDS))
        shards = index.get("shardlist", []) if isinstance(index, dict) else []
        sizes = {os.path.basename(str(s.get("url"))): s.get("nsamples") for s in shards}
    return {name: size for name, size in sizes.items() if _is_count(size)}


def of_file(path: str) -> int | None:
    """The length of a file that has a record of its own."""
    stats = document(os.path.splitext(path)[0] + _STATS)
    count = stats.get("successes") if isinstance(stats, dict) else None
    return count if _is_count(count) else None


def document(path: str) -> Any:
    """The content of a JSON file; None if it cannot be read."""
    try:
        return json.loads(storage.read(path))
    except (OSError, ValueError):
        return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
