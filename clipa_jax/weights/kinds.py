"""The kinds of weights, and `open_weights`: the one place that decides what a path is."""

import abc
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.preprocess.vocab import kept_copy
from clipa_jax.runtime import files
from clipa_jax.training import checkpoint, state, workdir
from clipa_jax.weights import fit, npz, open_clip_folder, state_file
from clipa_jax.weights.keys import Json

Leaves = dict[str, Any]


@dataclass(frozen=True)
class Weights(abc.ABC):
    """Weights at a path. Opening them reads no array.

    Attributes:
      kind: "stage", "npz" or "open_clip".
      path: as the user gave it, for messages.
    """

    kind: ClassVar[str]
    path: str

    @property
    @abc.abstractmethod
    def config(self) -> ConfigDict | None:
        """The config of the stage that trained the weights; None where the files have none."""

    @abc.abstractmethod
    def read(self) -> Leaves:
        """Read all weights by name on the host, layers unrolled.

        Raises:
          CheckpointError: the files are damaged or of an unknown format.
        """

    def read_like(self, shapes: Mapping[str, Any]) -> Leaves:
        """Read the weights in the form of a model's parameters; see `fit.fit`.

        Args:
          shapes: the parameters by name, layers unrolled.
        """
        return fit.fit(self.read(), shapes)

    def build(self, config: ConfigDict | None = None) -> tuple[ConfigDict, CLIP, Leaves]:
        """(config, model, weights that fit the model on the host), layers unrolled.

        Args:
          config: a stage's config; needed where the files have none.

        Raises:
          CheckpointError: there is no config, or the weights do not fit it.
        """
        config = self.config if config is None else config
        if config is None:
            raise CheckpointError(f"{self.path} carries no config; pass config=, a stage's config")
        config = config.copy_and_resolve_references()
        config.model.layers = "unrolled"
        settings = Settings(config)
        model, inputs = models.build(settings.model), settings.input
        shapes = trees.flatten(state.param_shapes(model, inputs.res, inputs.text_len))
        leaves = self.read_like(shapes)
        fit.check_layout(leaves, shapes, self.path)
        return config, model, leaves


@dataclass(frozen=True)
class StageWeights(Weights):
    """The newest checkpoint in the folder of a stage."""

    kind = "stage"
    folder: Path

    @property
    def config(self) -> ConfigDict | None:
        """The config in the folder; its vocabulary is the copy that lies there too."""
        if not (self.folder / workdir.CONFIG).exists():
            return None
        config = ConfigDict(files.read_json(self.folder / workdir.CONFIG))
        config.input.vocab = kept_copy(self.folder) or config.input.vocab
        return config

    def read(self) -> Leaves:
        """See `Weights.read`."""
        return checkpoint.read_params(str(self.folder))


@dataclass(frozen=True)
class NpzWeights(Weights):
    """A .npz archive: a file of the released CLIPA code, or one of `convert_from_torch`."""

    kind = "npz"

    @property
    def config(self) -> ConfigDict | None:
        """The config beside the archive, where `convert_from_torch` left one."""
        file = npz.config_file(Path(self.path))
        return ConfigDict(files.read_json(file)) if file.is_file() else None

    def read(self) -> Leaves:
        """See `Weights.read`."""
        return npz.read(Path(self.path))


@dataclass(frozen=True)
class OpenClipWeights(Weights):
    """A state_dict of open_clip with its open_clip_config.json.

    Attributes:
      file: the state_dict.
      content: of open_clip_config.json; None for that of the file beside the state_dict.
    """

    kind = "open_clip"
    file: Path
    content: Json | None = None

    @property
    def config(self) -> ConfigDict:
        """A config for the same architecture. Reads the weights, which show the positions."""
        return self._model[0]

    def read(self) -> Leaves:
        """See `Weights.read`."""
        return self._model[1]

    @functools.cached_property
    def _model(self) -> tuple[ConfigDict, Leaves]:
        folder = self.file.absolute().parent
        content = self.content or open_clip_folder.read_config(folder)
        return open_clip_folder.to_ours(content, state_file.read(self.file), folder)


def open_weights(path: str) -> Weights:
    """Open the weights at a path.

    Args:
      path: a workdir, whose last finished stage is taken; the folder of a stage; a .npz archive;
        an open_clip folder; or a file with a state_dict, safetensors or of `torch.save`.

    Raises:
      CheckpointError: there are no weights.
    """
    root = Path(path)
    if root.is_file():
        return NpzWeights(path) if root.suffix == ".npz" else OpenClipWeights(path, root)
    if open_clip_folder.is_folder(root):
        return OpenClipWeights(path, open_clip_folder.find_state(root))
    for folder in (root, *(root / name for name in workdir.stages_in(root)[-1:])):
        if (folder / workdir.CHECKPOINTS).is_dir():
            return StageWeights(path, folder)
    raise CheckpointError(
        f"no weights at {path}: expected a workdir with a finished stage, a stage's folder with "
        f"{workdir.CHECKPOINTS}/ in it, a .npz file, an open_clip folder or a state_dict file"
    )
