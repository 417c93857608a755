"""The kinds of weights, and `open_weights`: the one place that decides what a path is."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from clipa_jax import models, trees
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.preprocess.vocab import kept_copy
from clipa_jax.runtime import files
from clipa_jax.runtime.files import Path
from clipa_jax.training import checkpoint, state, workdir
from clipa_jax.weights import npz, open_clip_folder
from clipa_jax.weights.fit import fit
from clipa_jax.weights.keys import Json

Leaves = dict[str, Any]
RESULT = "result"


@dataclass(frozen=True)
class Weights:
    """Weights at a path. Opening them reads no array.

    Attributes:
      kind: "stage", "npz", "open_clip", or `RESULT`: of an evaluation, without weights.
      path: as the user gave it, for messages.
      source: the stage's folder, the archive, or the file with open_clip's state_dict.
      read: all weights by name on the host, layers unrolled; raises `CheckpointError` if the
        files are damaged.
    """

    kind: str
    path: str
    source: Path
    read: Callable[[], Leaves]
    _read_config: Callable[[], ConfigDict | None]

    @property
    def config(self) -> ConfigDict | None:
        """The config of the stage that trained the weights; None where the files have none."""
        return self._read_config()

    def read_like(self, shapes: Mapping[str, Any]) -> Leaves:
        """Read the weights in the form of a model's parameters; see `fit`."""
        return fit(self.read(), shapes)

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
        wrong = trees.same_layout(leaves, shapes)
        if wrong:
            raise CheckpointError(
                f"the weights in {self.path} do not fit the config: {'; '.join(wrong)}"
            )
        return config, model, leaves


def open_weights(path: str) -> Weights:
    """Open the weights at a path.

    Args:
      path: a workdir, whose last finished stage is taken; the folder of a stage; a .npz archive;
        an open_clip folder; or a state_dict file, safetensors or of `torch.save`. For a comparison
        also the result of an evaluation: its .json, or a folder with one and without weights.

    Raises:
      CheckpointError: there are no weights.
    """
    root = Path(path)
    if root.is_file() and root.suffix == ".json":
        return _result(path, root)
    if root.is_file() and root.suffix == ".npz":
        read, config = functools.partial(npz.read, root), functools.partial(npz.read_config, root)
        return Weights("npz", path, root, read, config)
    if root.is_file():
        return open_clip_weights(path, root)
    if open_clip_folder.is_folder(root):
        return open_clip_weights(path, open_clip_folder.find_state(root))
    for folder in (root, *(root / name for name in workdir.stages_in(root)[-1:])):
        if (folder / workdir.CHECKPOINTS).is_dir():
            read = functools.partial(checkpoint.read_params, str(folder))
            config = functools.partial(_stage_config, folder)
            return Weights("stage", path, folder, read, config)
    if (root / workdir.EVALUATION).is_file():
        return _result(path, root / workdir.EVALUATION)
    raise CheckpointError(
        f"no weights at {path}: expected a workdir with a finished stage, a stage's folder with "
        f"{workdir.CHECKPOINTS}/ in it, a .npz file, an open_clip folder or a state_dict file"
    )


def open_clip_weights(path: str, file: Path, content: Json | None = None) -> Weights:
    """Open a state_dict of open_clip.

    Its config needs the weights too: they show whether the image positions are sin-cos. Both are
    read once.

    Args:
      path: as the user gave it.
      file: the state_dict.
      content: of open_clip_config.json; None for that of the file beside the state_dict.
    """
    model = functools.cache(lambda: open_clip_folder.read(file, content))
    return Weights("open_clip", path, file, lambda: model()[1], lambda: model()[0])


def _result(path: str, file: Path) -> Weights:
    def refuse() -> Any:
        raise CheckpointError(f"{path} holds the result of an evaluation, and no weights")

    return Weights(RESULT, path, file, refuse, refuse)


def _stage_config(folder: Path) -> ConfigDict | None:
    """The config of a stage, with the copy of the vocabulary that lies beside it."""
    if not (folder / workdir.CONFIG).exists():
        return None
    config = ConfigDict(files.read_json(folder / workdir.CONFIG))
    config.input.vocab = kept_copy(folder) or config.input.vocab
    return config
