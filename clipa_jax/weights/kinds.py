"""The kinds of weights, and `open_weights`: the one place that decides what a path is."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError, nearest
from clipa_jax.models import CLIP, positions
from clipa_jax.preprocess.vocab import kept_copy
from clipa_jax.runtime import hub
from clipa_jax.runtime.files import Path
from clipa_jax.training import checkpoint, state, workdir
from clipa_jax.weights import architecture, npz, open_clip_folder, released, state_file
from clipa_jax.weights.fit import fit
from clipa_jax.weights.keys import Json

Leaves = dict[str, Any]
RESULT = "result"


@dataclass(frozen=True)
class Weights:
    """Weights at a path. Opening them reads no array."""

    kind: str  # "stage", "npz", "open_clip", or `RESULT`: of an evaluation, without weights
    path: str  # as the user gave it, for messages
    source: Path  # the stage's folder, the archive, or the file with open_clip's state_dict
    # All weights by name on the host, layers unrolled; `CheckpointError` if files are damaged.
    read: Callable[[], Leaves]
    _read_config: Callable[[], ConfigDict | None]

    @property
    def config(self) -> ConfigDict | None:
        """The config of the stage that trained the weights; None where the files have none."""
        return self._read_config()

    def read_like(self, shapes: Mapping[str, Any]) -> Leaves:
        """Read the weights in the form of a model's parameters; see `fit`."""
        return fit(self.read(), shapes)

    def build(
        self, config: ConfigDict | None = None, res: int | None = None
    ) -> tuple[ConfigDict, CLIP, Leaves]:
        """(config, model, weights that fit the model on the host), layers unrolled.

        `config`, a stage's, is needed where the files have none; learned image positions are
        resized to `res` pixels a side, None for those of the config. Raises `CheckpointError` if
        there is no config, or the weights do not fit it.
        """
        config = self.config if config is None else config
        if config is None:
            raise CheckpointError(
                f"{self.path} carries no config; give that of the stage that trained it: config= "
                "in Python, --config= of a command"
            )
        config = config.copy_and_resolve_references()
        config.model.layers = "unrolled"
        grid = config.get(architecture.GRID)
        if res is None and grid:
            raise CheckpointError(
                f"{self.path} is for pictures of {grid[0]} x {grid[1]} patches; pass res=, the "
                "side of square ones, to resize its positions"
            )
        config.input.res = res or config.input.res
        settings = Settings(config)
        model, inputs = models.build(settings.model), settings.input
        shapes = trees.flatten(state.param_shapes(model, inputs.res, inputs.text_len))
        leaves = self.read_like(shapes)
        table, target = leaves.get(open_clip_folder.POSEMB), shapes.get(open_clip_folder.POSEMB)
        if res is not None and table is not None and target and table.shape != target.shape:
            resized = positions.resize_2d(table, target.shape[1] - 1, grid)
            leaves[open_clip_folder.POSEMB] = np.asarray(resized)
        wrong = trees.same_layout(leaves, shapes)
        if wrong:
            raise CheckpointError(
                f"the weights in {self.path} do not fit the config: {'; '.join(wrong)}"
            )
        return config, model, leaves


def open_weights(path: str, numerics: str = "") -> Weights:
    """Open the weights at a path, or of a name.

    That is a workdir, whose last finished stage is taken; the folder of a stage; a .npz archive; an
    open_clip folder; a state_dict file, safetensors or of `torch.save`; a name in
    `released.MODELS`; or `hf-hub:OWNER/NAME[@REVISION]`, which is downloaded. For a comparison also
    the result of an evaluation: its .json, or a folder with one and without weights.

    `numerics` of open_clip models are "clipa" or "open_clip" (see `released.NUMERICS`); by default
    the former for released CLIPA models and the latter for all others. Raises `CheckpointError` if
    there are no weights, `DataError` if the download failed.
    """
    root, model = Path(path), released.find(path)
    if root.suffix == ".json" and not root.name.endswith(state_file.INDEX):
        if not root.is_file():
            raise CheckpointError(
                f"no results at {path}: evaluate --out=DIR writes DIR/{workdir.EVALUATION}"
            )
        return _result(path, root)
    numerics = numerics or ("clipa" if model else "open_clip")
    settings = released.numerics_of(numerics)
    if path.startswith(hub.PREFIX) or (model and not root.exists()):
        address = path if path.startswith(hub.PREFIX) or not model else model.address
        folder = hub.fetch(address, lambda names: open_clip_folder.needed(names, address))
        return open_clip_weights(path, open_clip_folder.find_state(folder), numerics=settings)
    if root.is_file() and root.suffix == ".npz":
        read, config = functools.partial(npz.read, root), functools.partial(npz.read_config, root)
        return Weights("npz", path, root, read, config)
    if root.is_file():
        return open_clip_weights(path, root, numerics=settings)
    if open_clip_folder.is_folder(root):
        state = open_clip_folder.find_state(root)
        return open_clip_weights(path, state, numerics=settings)
    for folder in (root, *(root / name for name in workdir.stages_in(root)[-1:])):
        if (folder / workdir.CHECKPOINTS).is_dir():
            read = functools.partial(checkpoint.read_params, str(folder))
            config = functools.partial(_stage_config, folder)
            return Weights("stage", path, folder, read, config)
    if (root / workdir.EVALUATION).is_file():
        return _result(path, root / workdir.EVALUATION)
    place = f"no weights at {path}" if root.exists() else f"no such file or folder: {path}"
    raise CheckpointError(
        f"{place}; expected a workdir with a finished stage, a stage's folder with "
        f"{workdir.CHECKPOINTS}/ in it, a .npz file, an open_clip folder, a state_dict file, "
        f"{hub.PREFIX}OWNER/NAME or a released model; {nearest(path, released.MODELS)}"
    )


def open_clip_weights(
    path: str, file: Path, content: Json | None = None, numerics: Json | None = None
) -> Weights:
    """Open the state_dict of open_clip in a file; `path` is what the user gave.

    Its config needs the weights too: they show whether the image positions are sin-cos. Both are
    read once. `content` is that of open_clip_config.json, None for that of the file beside the
    state_dict; `numerics` are keys of both towers that replace those of the config.
    """

    @functools.cache
    def model() -> tuple[ConfigDict, Leaves]:
        config, leaves = open_clip_folder.read(file, content)
        for tower in (config.model.image, config.model.text):
            tower.update(numerics or {})
        return config, leaves

    return Weights("open_clip", path, file, lambda: model()[1], lambda: model()[0])


def _result(path: str, file: Path) -> Weights:
    def refuse() -> Any:
        raise CheckpointError(f"{path} holds the result of an evaluation, and no weights")

    return Weights(RESULT, path, file, refuse, refuse)


def _stage_config(folder: Path) -> ConfigDict | None:
    """The config of a stage, with the copy of the vocabulary that lies beside it."""
    if not (folder / workdir.CONFIG).exists():
        return None
    config = ConfigDict(workdir.read_config(folder / workdir.CONFIG))
    config.input.vocab = kept_copy(folder) or config.input.vocab
    return config
