"""Weights in NumPy archives: the released CLIPA files, and what we write.

Keys are parameter names below `params/`. A trainer's file of the released code holds `opt/...`
and `chrono/...` besides; others hold a bare tree, or the weights below `opt/target/`
(released `helpers/utils.py`, `load_params`). bfloat16 is stored as 2-byte void.
"""

import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np
from ml_collections import ConfigDict

from clipa_jax.errors import CheckpointError
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.training import workdir

ROOTS = ("params/", "opt/target/")


def read(path: Path) -> dict[str, np.ndarray]:
    """Read weights by name, float32; pickled objects are never loaded.

    Raises `CheckpointError` for what is no archive of plain arrays.
    """
    try:
        with files.open(path) as stream, np.load(stream, allow_pickle=False) as archive:
            root = next((r for r in ROOTS if any(key.startswith(r) for key in archive)), "")
            leaves = {key: archive[key] for key in archive if key.startswith(root)}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not a .npz archive of plain arrays ({error})") from None
    return {key.removeprefix(root): as_float32(x, f"{path}: {key}") for key, x in leaves.items()}


def write(path: Path, leaves: Mapping[str, np.ndarray]) -> None:
    """Write weights by name, layers unrolled, into a file whose name must end in .npz."""
    arrays = {f"params/{name}": np.asarray(leaf) for name, leaf in leaves.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes a key for allow_pickle


def config_file(path: Path) -> Path:
    """The file in which `convert_from_torch` leaves the config of an archive."""
    return path.with_suffix(".config.json")


def read_config(path: Path) -> ConfigDict | None:
    """The config beside an archive; None if there is none."""
    file = config_file(path)
    return ConfigDict(workdir.read_config(file)) if file.is_file() else None


def as_float32(array: np.ndarray, name: str) -> np.ndarray:
    """An array of real numbers as float32, else `CheckpointError`; 2-byte void is bfloat16."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        array = array.view(ml_dtypes.bfloat16)
    try:
        return array.astype(np.float32, copy=False)
    except (TypeError, ValueError):
        raise CheckpointError(f"{name} is of {array.dtype}, expected real numbers") from None
