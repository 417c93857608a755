"""state_dict files: safetensors, and files of `torch.save`, which need PyTorch to be read."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401, registers bfloat16 with numpy for safetensors
import numpy as np
import safetensors
import safetensors.numpy

from clipa_jax.errors import CheckpointError
from clipa_jax.runtime.files import Path
from clipa_jax.weights import npz


def read(file: Path) -> dict[str, np.ndarray]:
    """Read a state_dict, or that in open_clip's training checkpoint; float32. Runs no pickled code.

    Raises:
      CheckpointError: the file is damaged, holds other things than tensors, or needs PyTorch, which
        is not installed.
    """
    return _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickled(file)


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
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{file} holds no state_dict: expected tensors by name")
    return {key: tensor.to(torch.float32).numpy() for key, tensor in content.items()}
