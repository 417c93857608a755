"""A checkpoint on the devices, under the config of an evaluation.

That config is a training stage's, a schedule, or one for evaluation alone
(`clipa_jax.config.schema.evaluation`), which replaces single keys of the checkpoint's own config.
Every difference from the training config is reported.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipa_jax import loading, models, sharding
from clipa_jax.config import schedules
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline
from clipa_jax.errors import CheckpointError, ConfigError, DataError
from clipa_jax.models import CLIP
from clipa_jax.preprocess.text import load_tokenizer
from clipa_jax.weights import Weights

MACHINE_KEYS = ("cpu_devices", "distributed", "compilation_cache", "mesh", "sharding")
# Fields of a model that change how it is computed, not its result, or that only training reads.
_SAME_RESULT = ("attention", "layers", "unroll", "remat", "parent", "name", "temperature_init")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A checkpoint on the devices, with its config as evaluated.

    `differs` has dicts of a `key` and its value in the `checkpoint` and in the `config`.
    """

    model: loading.Model
    mesh: Mesh
    differs: list[dict[str, Any]]


def stage_of(config: ConfigDict | None, weights: Weights) -> ConfigDict:
    """The config of one stage or evaluation for a checkpoint.

    Of a schedule the stage with the name of the checkpoint's is taken, else the last.
    """
    if config is None:
        raise ConfigError(f"evaluating {weights.path} needs --config=FILE.py")
    stages = schedules.split(config)
    if len(stages) > 1:
        trained = weights.config
        name = trained.name if trained else ""
        stages = [stage for stage in stages if stage.name == name] or stages
    for key in ("evals", *MACHINE_KEYS):
        if key not in stages[-1]:
            raise ConfigError(
                f"config.{key} is needed: a config for evaluation starts from "
                "clipa_jax.config.schema.evaluation(), one of a stage from the recipes"
            )
    return stages[-1]


def load(weights: Weights, given: ConfigDict, stage: ConfigDict | None = None) -> Loaded:
    """Reads a checkpoint onto the devices; on several processes all call it.

    `given` is from `stage_of`; `stage` trained the weights, where they carry no config. Raises
    `CheckpointError` if the weights do not fit the config or have another vocabulary.
    """
    path, carried = weights.path, weights.config
    if carried is None and stage is not None:
        carried = schedules.split(stage)[-1]
    # A stage's config is taken as it is; one for evaluation alone replaces single keys.
    config = given if given.get("model", {}).get("size") else merged(carried, given, path)
    if not config.input.vocab:
        raise CheckpointError(
            f"{path} has an unsupported tokenizer; name a vocabulary that gives the same "
            "token ids with --config.input.vocab="
        )
    differs = list(differences(carried, config, path)) if carried else []
    # One for evaluation alone that names a resolution asks for positions of that grid.
    res = given.input.res if config is not given else None
    config, model, leaves = weights.build(config, res)
    load_tokenizer(config.input.vocab).vocabulary.check_fits(model.txt.config.vocab_size)
    try:
        mesh = Settings(given.mesh, "config.mesh").call(sharding.make_mesh)
    except ConfigError as error:
        logging.info("%s; using all devices along fsdp", error)  # it is for another machine
        mesh = sharding.make_mesh()
    layout = Settings(given.sharding, "config.sharding")
    return Loaded(loading.on_mesh(config, model, leaves, mesh, layout), mesh, differs)


def merged(carried: ConfigDict | None, given: ConfigDict, path: str) -> ConfigDict:
    """A checkpoint's own config with the keys of `input` and `model` that `given` replaces."""
    if carried is None:
        raise CheckpointError(
            f"{path} carries no config; name the one that trained it, as "
            "--stage=configs/model_h/finetune_336.py"
        )
    config = carried.copy_and_resolve_references()
    for section in ("input", "model"):
        for key, value in given.get(section, {}).items():
            if value is not None:
                with config.unlocked(), config.ignore_type():
                    config[section][key] = value
    return config


def differences(carried: ConfigDict, config: ConfigDict, path: str) -> Iterator[dict[str, Any]]:
    """Yields keys whose values differ between the checkpoint's own config and the evaluation's.

    Raises `CheckpointError` if the vocabularies differ, so that token ids mean other words.
    """
    if carried.input.vocab not in ("", config.input.vocab):
        _check_vocabulary(carried.input.vocab, config.input.vocab, path)
    trained, evaluated = dict(_embedding_keys(carried)), dict(_embedding_keys(config))
    for key, value in evaluated.items():
        if key in trained and trained[key] != value:
            yield {"key": key, "checkpoint": trained[key], "config": value}


def _check_vocabulary(carried: str, given: str, path: str) -> None:
    ours, theirs = (load_tokenizer(vocab).vocabulary for vocab in (given, carried))
    if not theirs.same_pieces(ours):
        raise CheckpointError(
            f"{path} was trained with the vocabulary {carried} of {theirs.size:,} pieces, but "
            f"config.input.vocab={given} has {ours.size:,}, not the same ones in the same order; "
            "evaluate it with its own"
        )


def _embedding_keys(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """Keys that the embedding of a picture or a text depends on, with values for JSON."""
    inputs = config.input
    yield "input.res", inputs.res
    yield "input.text_len", inputs.text_len
    yield "input.clean", inputs.clean
    yield "input.preprocess_eval", pipeline.fill(inputs.preprocess_eval, inputs)
    try:
        model = models.build(Settings(config.model, "config.model"))
    except ConfigError as error:
        logging.info("the model of the checkpoint's own config cannot be built: %s", error)
        return
    yield from _fields("model", model)
    yield from _fields("model.image", model.img.config)
    yield from _fields("model.text", model.txt.config)


def _fields(prefix: str, module: CLIP | Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        if field.name == "bias_init":  # only whether there is a bias; the weights have its value
            value = value is not None
        if field.name == "dtype":
            value = np.dtype(value).name
        if field.name not in _SAME_RESULT and not dataclasses.is_dataclass(value):
            yield f"{prefix}.{field.name}", list(value) if isinstance(value, tuple) else value


def with_fixed_resolution(encoders: Any, res: int) -> Any:
    """Encoders that refuse pictures of another size than `res` with a `DataError`."""

    def image(params: Any, image_BRRC: jax.Array) -> jax.Array:
        if image_BRRC.shape[1:3] != (res, res):
            height, width = image_BRRC.shape[1:3]
            raise DataError(
                f"the evaluator's preprocess gives pictures of {height} x {width} pixels, but the "
                f"checkpoint takes {res} x {res}; set config.input.res and preprocess alike"
            )
        return encoders.image(params, image_BRRC)

    return dataclasses.replace(encoders, image=image)
