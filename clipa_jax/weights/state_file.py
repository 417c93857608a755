"""state_dict files that PyTorch wrote, as numpy arrays. Pickled code is never run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipa_jax.errors import CheckpointError
from clipa_jax.weights import open_clip


def read(file: Path) -> dict[str, np.ndarray]:
    """A state_dict, float32, from safetensors or from a file of `torch.save`.

    A training checkpoint of open_clip, which holds it below "state_dict", is read as well.

    Raises:
      CheckpointError: the file is damaged, holds other things than tensors, or anything that
        `weights_only` refuses.
    """
    if file.suffix == ".safetensors":
        return open_clip.read_state(file)
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{file} cannot be read as tensors alone (torch.load with weights_only: {reason})"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{file} holds no state_dict: expected tensors by name")
    return {key: tensor.to(torch.float32).numpy() for key, tensor in content.items()}


def find(path: Path) -> Path:
    """The weights file in an open_clip folder, safetensors first.

    Raises:
      CheckpointError: there is none.
    """
    for name in (*open_clip.SAFETENSORS, *open_clip.PICKLED):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path} has {open_clip.CONFIG} but no weights ({open_clip.WEIGHTS})")
