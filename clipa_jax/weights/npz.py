"""Weights in NumPy archives: the released CLIPA files, and what we write.

Keys are leaf names below `params/`. A trainer's file of the released code holds `opt/...`
and `chrono/...` besides; others hold a bare tree, or the weights below `opt/target/`
(released `helpers/utils.py`, `load_params`). bfloat16 is stored as 2-byte void.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from clipa_jax.errors import CheckpointError

ROOTS = ("params/", "opt/target/")


def read(path: Path) -> dict[str, np.ndarray]:
    """Weights by name, float32.

    Raises:
      CheckpointError: not an archive of plain arrays. Pickled objects are never loaded.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise CheckpointError(f"{path} is a single array, expected a .npz archive")
            keys = archive.files
            root = next((r for r in ROOTS if any(key.startswith(r) for key in keys)), "")
            return {
                key.removeprefix(root): as_float32(archive[key], f"{path}: {key}")
                for key in keys
                if key.startswith(root)
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a .npz archive of plain arrays ({error})") from None


def write(path: Path, leaves: Mapping[str, np.ndarray]) -> None:
    """Writes weights by name, below `params/`.

    Args:
      path: its name must end in .npz.
      leaves: layers unrolled.
    """
    arrays = {f"params/{name}": np.asarray(leaf) for name, leaf in leaves.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes a key for allow_pickle


def config_file(path: Path) -> Path:
    """Where `convert_from_torch` leaves the config of an archive."""
    return path.with_suffix(".config.json")


def as_float32(array: np.ndarray, what: str) -> np.ndarray:
    """An array of numbers as float32; 2-byte void is bfloat16.

    Raises:
      CheckpointError: of other things than real numbers.
    """
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        array = array.view(ml_dtypes.bfloat16)
    try:
        return array.astype(np.float32, copy=False)
    except (TypeError, ValueError):
        raise CheckpointError(f"{what} is of {array.dtype}, expected real numbers") from None
