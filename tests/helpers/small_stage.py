"""A small stage with evaluators on the bundled pictures, trained for no step."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from clipa_jax.config import schema
from clipa_jax.preprocess.vocab import keep_copy
from clipa_jax.training import checkpoint, workdir
from tests.helpers import tiny

VOCAB = "data/emoji/vocab.txt"
HELD_OUT = {"source": "tfds:data/emoji/1.0.0", "split": "heldout_pictures", "batch_size": 64}
EVALS = {
    "zero_shot": {"type": "zero_shot", "label": "group", **HELD_OUT},
    "retrieval": {"type": "retrieval", "captions": (0,), **HELD_OUT},
}
NOT_THERE = {"type": "zero_shot", "label": "group", "source": "tfds:/no/such", "split": "test"}


def config(name: str = "small", **overrides) -> ConfigDict:
    """The stage's config."""
    c = tiny.config(
        model__text__vocab_size=2_048,
        input__vocab=VOCAB,
        input__text_len=6,
        input__preprocess_eval="decode|resize({res})",
    )
    c.name = name
    c.distributed.coordinator = "none"
    c.evals = ConfigDict(EVALS)
    c.update_from_flattened_dict({key.replace("__", "."): x for key, x in overrides.items()})
    return c


def evaluation(evals: dict) -> ConfigDict:
    """A config for evaluation alone."""
    c = schema.evaluation()
    c.distributed.coordinator = "none"
    c.evals = ConfigDict(evals)
    return c


def stage(root: Path, c: ConfigDict, seed: int = 0, finished: bool = True) -> Path:
    """Makes the folder of a stage with random weights."""
    folder = root / c.name
    workdir.claim(folder, c)
    keep_copy(c.input.vocab, folder)
    spec = tiny.make_spec(c, tiny.mesh(), tiny.optax.sgd(1.0))
    state = spec.with_params(tiny.init(c, seed)[1], seed=seed)
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(jax.block_until_ready(state), {})
    checkpoints.close()
    if finished:
        workdir.finish(folder, {"name": c.name})
    return folder
