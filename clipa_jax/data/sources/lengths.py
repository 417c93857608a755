"""Lengths of shards from what their makers wrote beside them, so that no shard is read for them.

sizes.json             of webdatasets: {"00000.tar": 10000, ...}
shardindex.json        of wids: {"shardlist": [{"url": "00000.tar", "nsamples": 10000}, ...]}
00000_stats.json       of img2dataset, one a shard: {"successes": 9874, ...}
"""

import json
import os
from typing import Any

from absl import logging

from clipa_jax.runtime import storage

_SIZES, _WIDS, _STATS = "sizes.json", "shardindex.json", "_stats.json"


def of_folder(folder: str) -> dict[str, int]:
    """Lengths by the names of files, from a record about the whole folder."""
    sizes = document(os.path.join(folder, _SIZES))
    if not isinstance(sizes, dict):
        index = document(os.path.join(folder, _WIDS))
        shards = index.get("shardlist", []) if isinstance(index, dict) else []
        sizes = {os.path.basename(str(s.get("url"))): s.get("nsamples") for s in shards}
    counts = {name: size for name, size in sizes.items() if _is_count(size)}
    if len(counts) < len(sizes):
        wrong = next(name for name in sizes if name not in counts)
        message = "%s: %d lengths are no counts and are not used, the first is %r of %s"
        logging.warning(message, folder, len(sizes) - len(counts), sizes[wrong], wrong)
    return counts


def of_file(path: str) -> int | None:
    """The length of a file that has a record of its own."""
    stats = document(os.path.splitext(path)[0] + _STATS)
    count = stats.get("successes") if isinstance(stats, dict) else None
    if stats is not None and not _is_count(count):
        message = "%s: its record in *%s is no count and is not used: %r"
        logging.log_first_n(logging.WARNING, message, 20, path, _STATS, count)
    return count if _is_count(count) else None


def document(path: str) -> Any:
    """The content of a JSON file; None if it cannot be read, with a warning if it is no JSON."""
    try:
        return json.loads(storage.read(path))
    except OSError:
        return None
    except ValueError as error:
        message = "%s is not JSON (%s) and is not used: correct or remove it"
        logging.log_first_n(logging.WARNING, message, 20, path, error)
        return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
