"""Checks of initial weights beyond shapes: their vocabulary and pixel statistics."""

import re
from collections.abc import Sequence

from absl import logging
from ml_collections import ConfigDict

from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.preprocess.text import load_tokenizer

TOKEN_TABLE = "txt/Embed_0/embedding"


def check(path: str, origin: ConfigDict | None, config: Settings, edits: Sequence[str]) -> None:
    """Compares the vocabulary and the pixel statistics of initial weights with those of a stage.

    `origin` is the config that trained them, None if it is unknown. Raises `CheckpointError` if the
    vocabularies differ, and no `fresh:` edit initializes the token table.
    """
    if origin is None:
        logging.info("%s has no config, so its vocabulary is not compared", path)
        return
    for key in ("mean", "std"):
        before, now = tuple(origin.model[key]), tuple(config.model[key])
        if before != now:
            logging.warning(
                "model.%s=%s, but the weights in %s were trained with %s", key, now, path, before
            )
    old, new = origin.input.vocab, config.input.vocab
    if is_fresh(TOKEN_TABLE, edits) or old == new:
        return
    try:
        theirs = load_tokenizer(old).vocabulary if old else None
    except DataError as error:
        logging.warning("the vocabulary of the weights in %s is not compared: %s", path, error)
        return
    if theirs is None:
        logging.warning("the tokenizer of the weights in %s is unknown and not compared", path)
        return
    ours = load_tokenizer(new).vocabulary
    if not theirs.same_pieces(ours):
        raise CheckpointError(
            f"the weights in {path} were trained with the vocabulary {old} of {theirs.size:,} "
            f"pieces, but input.vocab={new} has {ours.size:,} other pieces or another order, so "
            f"token ids would mean other words. Use --config.input.vocab={old}, or initialize the "
            f"token table with --config.surgery=\"('fresh:{TOKEN_TABLE}',)\""
        )


def is_fresh(name: str, edits: Sequence[str]) -> bool:
    """Whether an edit initializes the parameter of this name."""
    patterns = (edit.removeprefix("fresh:") for edit in edits if edit.startswith("fresh:"))
    return any(re.fullmatch(pattern, name) for pattern in patterns)
