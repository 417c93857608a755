"""What opening a source of very many shards takes before the first sample.

    python tests/data/measure_opening.py [SHARDS]

The shards are small tars in fsspec's memory, which stands for a bucket, with their lengths in
sizes.json; a request is a call of the file system. The second line is a start with the index.
"""

import io
import json
import os
import resource
import sys
import tarfile
import tempfile
import time

import fsspec

from clipa_jax.data import sources
from clipa_jax.data.order import LaneOrder, Shards
from clipa_jax.runtime import storage
from tests.helpers import writers


def write(count: int) -> str:
    """The shards; all have the same content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        writers.add(tar, "0.jpg", b"a picture")
        writers.add(tar, "0.txt", b"a caption")
    bucket = fsspec.filesystem("memory")
    for number in range(count):
        bucket.pipe_file(f"/bucket/{number:06d}.tar", buffer.getvalue())
    sizes = {f"{number:06d}.tar": 10_000 for number in range(count)}
    bucket.pipe_file("/bucket/sizes.json", json.dumps(sizes).encode())
    return f"webdataset:memory://bucket/{{000000..{count - 1:06d}}}.tar"


def main() -> None:
    """Writes a line a start."""
    spec = write(int(sys.argv[1]) if len(sys.argv) > 1 else 41_408)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    requests, call = [], storage._call

    def counted(method, *args, **options):
        requests.append(method)
        return call(method, *args, **options)

    storage._call = counted
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for turn in ("first start", "second start"):
            requests.clear()
            begin, cpu = time.monotonic(), time.process_time()
            source = sources.open(spec, "train")
            order = LaneOrder(Shards.of(source), seed=0, lanes=16, window=1_024)
            order.pieces(3, *order.start(3, 65_536 * 1_000), 1_000)  # the shards of a position
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
            print(
                f"{turn}: {len(source.shards):,} shards, {source.num_examples:,} samples, "
                f"{len(requests)} requests, {time.monotonic() - begin:.1f} s "
                f"({time.process_time() - cpu:.1f} s of a processor), {peak // 1024} MiB more"
            )


if __name__ == "__main__":
    main()
