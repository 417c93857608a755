"""A folder as open_clip writes and reads it: open_clip_config.json beside a state_dict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP, positions
from clipa_jax.runtime import files
from clipa_jax.weights import architecture, rules
from clipa_jax.weights.keys import Json
from clipa_jax.weights.rules import Arrays

CONFIG, WEIGHTS, VOCABULARY = "open_clip_config.json", "open_clip_model.safetensors", "vocab.txt"
# In the order in which open_clip prefers them.
STATES = (
    WEIGHTS,
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
TABLE = "img/pos_embedding"


def is_folder(path: Path) -> bool:
    """Whether an open_clip model lies at `path`."""
    return any((path / name).is_file() for name in (CONFIG, *STATES))


def find_state(folder: Path) -> Path:
    """The file with the state_dict in a folder.

    Raises:
      CheckpointError: there is none.
    """
    for name in STATES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} has {CONFIG} but no {WEIGHTS}")


def read_config(folder: Path) -> Json:
    """The content of the folder's open_clip_config.json.

    Raises:
      UserError: there is none, or it is not JSON.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"there is no {CONFIG} in {folder}, and a state_dict does not say how many heads its "
            "model has; put one there, or convert the weights with the name of the model: "
            "tools/convert_from_torch.py --model=ViT-L-14-CLIPA"
        )
    return files.read_json(folder / CONFIG)


def to_ours(content: Json, state: Arrays, folder: Path) -> tuple[ConfigDict, dict[str, np.ndarray]]:
    """An open_clip model as (config, weights by name) of ours.

    Image positions are an explicit table in the weights, even where the config says that the
    model computes them; `fit.fit` leaves them out then.

    Args:
      content: of open_clip_config.json.
      state: the state_dict.
      folder: where its WordPiece vocabulary lies, if it has one.

    Raises:
      CheckpointError: our model does not support it; the message names the key or the tensor.
    """
    vocabulary = folder / VOCABULARY
    config = architecture.from_open_clip(content, str(vocabulary) if vocabulary.is_file() else "")
    towers = {"img": config.model.image, "txt": config.model.text}
    leaves = rules.from_open_clip(state, {name: tower.num_heads for name, tower in towers.items()})
    if TABLE in leaves and distance_to_sincos(leaves[TABLE]) == 0:
        config.model.image.posemb = "sincos2d"
    return config, leaves


def from_ours(model: CLIP, leaves: Arrays, inputs: Any, tokenizer: str) -> tuple[Json, Arrays]:
    """(content of open_clip_config.json, state_dict) of a model of ours.

    Args:
      model: the model.
      leaves: its weights by name, layers unrolled.
      inputs: the `input` section of its config.
      tokenizer: name of the tokenizer.

    Raises:
      CheckpointError: open_clip has no such tower, preprocessing or parameter; names it.
    """
    content = architecture.to_open_clip(model, inputs, tokenizer)
    tower = model.img.config
    if tower.posemb == "sincos2d":
        table = sincos_table((inputs.res // tower.patch_size) ** 2, tower.width)
        leaves = {**leaves, TABLE: table}
    return content, rules.to_open_clip(leaves)


def write(folder: Path, content: Mapping[str, Any], state: Arrays) -> None:
    """Write the config and the weights into an existing folder."""
    files.write_json(folder / CONFIG, content, indent=2)
    # The metadata says that these are tensors of PyTorch; transformers refuses files without it.
    safetensors.numpy.save_file(dict(state), folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes files that only their owner can read.
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)


def sincos_table(patches: int, width: int) -> np.ndarray:
    """Our fixed positions as the table (1, 1 + P, W) that open_clip keeps; the class row is zero.

    open_clip's own `sin_cos_2d` spaces the frequencies otherwise, so the table has to be explicit.
    """
    table_PD = positions.sincos_2d(round(patches**0.5), width)
    return np.concatenate([np.zeros((1, width), np.float32), table_PD])[None]


def distance_to_sincos(table_1PD: np.ndarray) -> float:
    """Largest difference of a table (1, 1 + P, W) to `sincos_table`; infinite for other shapes."""
    _, rows, width = table_1PD.shape
    if width % 4 or round((rows - 1) ** 0.5) ** 2 != rows - 1:
        return np.inf
    return float(np.abs(table_1PD - sincos_table(rows - 1, width)).max())
