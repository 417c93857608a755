"""A folder as open_clip writes and reads it: open_clip_config.json beside the weights.

Weights are safetensors here, which need no PyTorch; `state_file` reads the others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401, lets numpy know bfloat16, which safetensors asks it for
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.models import positions
from clipa_jax.runtime import files
from clipa_jax.weights import architecture, npz, rules

CONFIG, WEIGHTS, VOCABULARY = "open_clip_config.json", "open_clip_model.safetensors", "vocab.txt"
# In the order in which open_clip prefers them; the last ones need PyTorch.
SAFETENSORS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
PICKLED = (
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
TABLE = "visual.positional_embedding"


def is_folder(path: Path) -> bool:
    """Whether an open_clip model lies at `path`."""
    return (path / CONFIG).is_file()


def weights_file(path: Path) -> Path:
    """The file with the weights in a folder.

    Raises:
      CheckpointError: there is none that can be read without PyTorch.
    """
    for name in SAFETENSORS:
        if (path / name).is_file():
            return path / name
    pickled = next((name for name in PICKLED if (path / name).is_file()), None)
    if pickled:
        raise CheckpointError(
            f"{path} has its weights in {pickled}, which only PyTorch reads; convert them once: "
            f"python tools/convert_from_torch.py --checkpoint={path} --out=FILE.npz"
        )
    raise CheckpointError(f"{path} has {CONFIG} but no {WEIGHTS}")


def read_config(path: Path) -> dict[str, Any]:
    """The content of the folder's open_clip_config.json.

    Raises:
      CheckpointError: the file is missing or not JSON.
    """
    try:
        return files.read_json(path / CONFIG)
    except DataError as error:
        raise CheckpointError(str(error)) from None


def read_state(file: Path) -> dict[str, np.ndarray]:
    """A state_dict from safetensors, float32.

    Raises:
      CheckpointError: the file is damaged or of another form.
    """
    try:
        tensors = safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors ({error})") from None
    return {key: npz.as_float32(x, f"{file}: {key}") for key, x in tensors.items()}


def model(
    content: dict[str, Any], state: Mapping[str, np.ndarray], vocabulary: str
) -> tuple[ConfigDict, dict[str, np.ndarray]]:
    """An open_clip model as (config, weights by name) of ours.

    Image positions are an explicit table in the weights, even where the config says that
    they are the ones that we compute; `weights.fit` leaves them out then.

    Args:
      content: of open_clip_config.json.
      state: the state_dict.
      vocabulary: path of its WordPiece vocabulary, or "".

    Raises:
      CheckpointError: our model does not support it; names what.
    """
    config = architecture.from_open_clip(content, vocabulary)
    sections = {"img": config.model.image, "txt": config.model.text}
    heads = {tower: section.num_heads for tower, section in sections.items()}
    leaves = rules.from_open_clip(state, heads)
    table = leaves.get("img/pos_embedding")
    if table is not None and distance_to_sincos(table) == 0:
        config.model.image.posemb = "sincos2d"
    return config, leaves


def read(path: Path) -> tuple[ConfigDict, dict[str, np.ndarray]]:
    """The model in a folder, see `model`."""
    vocabulary = path / VOCABULARY
    state = read_state(weights_file(path))
    return model(read_config(path), state, str(vocabulary) if vocabulary.is_file() else "")


def write(path: Path, content: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> None:
    """Writes the two files into an existing folder."""
    files.write_json(path / CONFIG, content, indent=2)
    # The entry tells PyTorch's users of safetensors that these are its tensors.
    safetensors.numpy.save_file(dict(state), path / WEIGHTS, metadata={"format": "pt"})
    # safetensors lets nobody else read what it writes.
    (path / WEIGHTS).chmod((path / CONFIG).stat().st_mode)


def sincos_table(patches: int, width: int) -> np.ndarray:
    """Our fixed positions as the table (1, 1 + P, W) that open_clip keeps; the class row is zero.

    Its own `sin_cos_2d` spaces the frequencies otherwise, so the table has to be explicit.
    """
    table_PD = positions.sincos_2d(round(patches**0.5), width)
    return np.concatenate([np.zeros((1, width), np.float32), table_PD])[None]


def distance_to_sincos(table_1PD: np.ndarray) -> float:
    """Largest difference of a table (1, 1 + P, W) to `sincos_table`; infinite for other forms."""
    _, rows, width = table_1PD.shape
    if width % 4 or round((rows - 1) ** 0.5) ** 2 != rows - 1:
        return np.inf
    return float(np.abs(table_1PD - sincos_table(rows - 1, width)).max())
