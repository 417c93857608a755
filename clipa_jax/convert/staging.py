"""Results that are checked before they are moved to their final place."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clipa_jax.errors import DataError


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A temporary folder, whose content moves beside `out` unless an error is raised."""
    if out.exists():
        raise DataError(f"{out} exists already; move it away or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out.parent) as folder:
        yield Path(folder)
        for path in Path(folder).iterdir():
            path.rename(out.parent / path.name)
