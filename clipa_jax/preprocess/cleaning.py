"""Cleaning of texts before they are tokenized, by name: `input.clean`.

Cleaners are functions in Python; inside tf.data they are called once for a chunk of texts.
"""

import html
from collections.abc import Callable

import ftfy
import numpy as np
import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown


def open_clip(text: str) -> str:
    """As open_clip cleans texts for its tokenizers: fixed by ftfy (typographic quotes become
    straight, among other things), HTML entities resolved twice, one space between words."""
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else nothing to fix
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


CLEANERS: dict[str, Callable[[str], str] | None] = {"none": None, "open_clip": open_clip}


def cleaner(name: str) -> Callable[[str], str] | None:
    """The cleaner of that name; None for one that changes nothing."""
    if name not in CLEANERS:
        raise ConfigError(unknown("clean", name, CLEANERS))
    return CLEANERS[name]


def cleaned(text_n: tf.Tensor, name: str) -> tf.Tensor:
    """Texts (n,) in valid UTF-8, cleaned inside a graph."""
    clean = cleaner(name)
    if clean is None:
        return text_n

    def clean_all(text_n: np.ndarray) -> np.ndarray:
        return np.array([clean(text.decode()).encode() for text in text_n], object)

    return tf.ensure_shape(tf.numpy_function(clean_all, [text_n], tf.string, False), text_n.shape)
