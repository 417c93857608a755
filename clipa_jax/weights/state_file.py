"""state_dict files: safetensors, and files of `torch.save`, which need PyTorch to be read."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes  # noqa: F401, registers bfloat16 with numpy for safetensors
import numpy as np
import safetensors
import safetensors.numpy

from clipa_jax.errors import CheckpointError
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.weights import npz

INDEX = ".index.json"  # suffix of the list of several safetensors files with one state_dict
_WRAPPERS = ("state_dict", "model", "module")  # entries with the state_dict in training checkpoints
# Parts of names that torch.compile and DistributedDataParallel add, at any depth.
_INSERTED = re.compile(r"(?<![^.])(?:_orig_mod|module)\.")


def read(file: Path) -> dict[str, np.ndarray]:
    """Read a state_dict, also of a training checkpoint of open_clip or Lightning; float32.

    Runs no pickled code. The names are those of the CLIP model, without what wrappers add. Raises
    `CheckpointError` for a file that is damaged, holds other things than tensors, or needs PyTorch,
    which is not installed.
    """
    if file.name.endswith(INDEX):
        names = sorted(set(files.read_json(file)["weight_map"].values()))
        parts = [_read_safetensors(file.with_name(name)) for name in names]
        return _plain({key: x for part in parts for key, x in part.items()})
    return _plain(_read_safetensors(file) if file.suffix == ".safetensors" else _read_pickled(file))


def shards(index: str, names: Iterable[str]) -> list[str]:
    """Those of some file names that belong to an index, by the way that they are called."""
    stem = index.removesuffix(INDEX).removesuffix(".safetensors")
    return [name for name in names if name.startswith(f"{stem}-") and name.endswith(".safetensors")]


def _plain(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors under CLIP's own names: `model._orig_mod.logit_scale` becomes `logit_scale`."""
    names = {key: _INSERTED.sub("", key) for key in state}
    scale = next((name for name in names.values() if name.endswith("logit_scale")), "")
    prefix = scale.removesuffix("logit_scale")
    plain = {names[key].removeprefix(prefix): x for key, x in state.items()}
    if len(plain) < len(state):
        raise CheckpointError(f"a state_dict has two tensors of one name without {prefix!r}")
    return plain


def write(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes safetensors, with the mark that transformers asks for."""
    safetensors.numpy.save_file(dict(tensors), file, metadata={"format": "pt"})
    file.chmod(0o644)  # safetensors makes files that only their owner can read


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors ({error})") from None
    return {key: npz.as_float32(x, f"{file}: {key}") for key, x in tensors.items()}


def _read_pickled(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # optional, and slow to import
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{file} can only be read with PyTorch: pip install -r requirements-torch.txt, or "
            "convert it elsewhere with tools/convert_from_torch.py --checkpoint=FILE --out=FILE.npz"
        ) from None
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001, a damaged file raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{file} cannot be read as tensors alone (torch.load with weights_only: {reason})"
        ) from None
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{file} holds no state_dict: expected tensors by name")
    return {key: tensor.to(torch.float32).numpy() for key, tensor in content.items()}
