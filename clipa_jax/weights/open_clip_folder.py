"""A folder as open_clip writes and reads it: open_clip_config.json beside a state_dict."""

from collections.abc import Collection
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP, positions
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.weights import architecture, rules, state_file
from clipa_jax.weights.keys import Json
from clipa_jax.weights.rules import Arrays

CONFIG, WEIGHTS, VOCABULARY = "open_clip_config.json", "open_clip_model.safetensors", "vocab.txt"
TOKENIZER = "tokenizer.json"  # as the library tokenizers writes it
PARITY = "parity.json"  # what the conversion measured
MERGES = "merges.txt"  # the vocabulary of CLIP's own tokenizer
# In the order in which open_clip prefers them; an index is that of several files.
STATES = (
    WEIGHTS,
    f"{WEIGHTS}{state_file.INDEX}",
    "open_clip_pytorch_model.safetensors",
    f"open_clip_pytorch_model.safetensors{state_file.INDEX}",
    "model.safetensors",
    f"model.safetensors{state_file.INDEX}",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
POSEMB = "img/pos_embedding"


def is_folder(path: Path) -> bool:
    """Whether an open_clip model lies at `path`."""
    return any((path / name).is_file() for name in (CONFIG, *STATES))


def find_state(folder: Path) -> Path:
    """The file with the state_dict in a folder; raises `CheckpointError` if there is none."""
    return folder / _state([path.name for path in folder.iterdir()], str(folder))


def needed(names: Collection[str], where: str) -> list[str]:
    """Those of the files of a repository that belong to an open_clip model.

    Raises `CheckpointError` if there is no state_dict.
    """
    state = _state(names, where)
    shards = state_file.shards(state, names) if state.endswith(state_file.INDEX) else []
    return [*({CONFIG, VOCABULARY, MERGES} & set(names)), state, *shards]


def _state(names: Collection[str], where: str) -> str:
    for name in STATES:
        if name in names:
            return name
    raise CheckpointError(
        f"{where} has {', '.join(sorted(names))[:200] or 'no file'}, but no {WEIGHTS}, nor any of "
        f"{', '.join(STATES[1:])}"
    )


def read_config(folder: Path) -> Json:
    """The content of open_clip_config.json; raises `UserError` without any."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"there is no {CONFIG} in {folder}, and a state_dict does not say how many heads its "
            "model has; put one there, or convert the weights with the name of the model: "
            "tools/convert_from_torch.py --model=ViT-L-14-CLIPA"
        )
    return files.read_json(folder / CONFIG)


def read(file: Path, content: Json | None = None) -> tuple[ConfigDict, dict[str, np.ndarray]]:
    """Read the open_clip model of a state_dict as (config, weights by name) of ours.

    Image positions are an explicit table in the weights, even where the config says that the
    model computes them; `fit` leaves them out then. A vocabulary beside the file is that of the
    model; `content` is that of open_clip_config.json, None for that of the file beside it. Raises
    `UserError` if the files cannot be read, or hold a key or tensor that we do not support.
    """
    folder = file.absolute().parent
    content = read_config(folder) if content is None else content
    vocabularies = (folder / name for name in (VOCABULARY, MERGES))
    config = architecture.from_open_clip(
        content, *(str(path) if path.is_file() else "" for path in vocabularies)
    )
    heads = {"img": config.model.image.num_heads, "txt": config.model.text.num_heads}
    leaves = rules.from_open_clip(state_file.read(file), heads)
    if POSEMB in leaves and is_sincos(leaves[POSEMB]):
        config.model.image.posemb = "sincos2d"
    return config, leaves


def write(folder: Path, model: CLIP, leaves: Arrays, inputs: Any, tokenizer: str) -> None:
    """Write a model of ours into an existing folder.

    `leaves` are its weights by name, layers unrolled, `inputs` the `input` section of its config,
    `tokenizer` a name. Raises `CheckpointError`, which names it, for a tower, preprocessing or
    parameter that open_clip lacks.
    """
    content = architecture.to_open_clip(model, inputs, tokenizer)
    tower = model.img.config
    if tower.posemb == "sincos2d":
        leaves = {**leaves, POSEMB: sincos_table(tower.patches(inputs.res), tower.width)}
    state = rules.to_open_clip(leaves)
    files.write_json(folder / CONFIG, content, indent=2)
    state_file.write(folder / WEIGHTS, state)


def name_tokenizer(folder: Path, repository: str) -> None:
    """Names the repository as the source of its tokenizer, if the folder has one.

    For "hf-hub:OWNER/NAME" open_clip takes the tokenizer from the repository that the config names.
    """
    content = read_config(folder)
    text = content["model_cfg"]["text_cfg"]
    if (folder / TOKENIZER).is_file() and text.get("hf_tokenizer_name") != repository:
        text["hf_tokenizer_name"] = repository
        files.write_json(folder / CONFIG, content, indent=2)


def sincos_table(patches: int, width: int) -> np.ndarray:
    """Our fixed positions as the table (1, 1 + P, W) that open_clip keeps; the class row is zero.

    open_clip's own `sin_cos_2d` spaces the frequencies otherwise, so the table has to be explicit.
    """
    table_PD = positions.sincos_2d(round(patches**0.5), width)
    return np.concatenate([np.zeros((1, width), np.float32), table_PD])[None]


def is_sincos(table_1PD: np.ndarray, tolerance: float = 0.0) -> bool:
    """Whether a table (1, 1 + P, W) is `sincos_table`, up to a difference."""
    if table_1PD.ndim != 3:
        return False
    patches, width = table_1PD.shape[1] - 1, table_1PD.shape[2]
    if width % 4 or round(patches**0.5) ** 2 != patches:
        return False
    return bool(np.abs(table_1PD - sincos_table(patches, width)).max() <= tolerance)
