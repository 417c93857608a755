"""The text side of zero-shot classification: one embedding a class, computed once.

A class's embedding is the mean of its prompts' unit embeddings, scaled to unit length (CLIP, arXiv
2103.00020, section 3.1.4). What is kept belongs to the weights of the text tower: data sets that
share sentences and class names, such as ImageNet and its variants, share the work too.
C classes, T sentences, N = C x T texts, L tokens, E embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clipa_jax.evaluators import embed
from clipa_jax.evaluators import prompts as wording
from clipa_jax.runtime import fingerprint

TEXT = "txt"  # the text tower among the parameters
_Prompts = tuple[tuple[str, ...], bool]  # sentences, and whether they are canonicalized


class ClassEmbeddings:
    """Embeddings by weights, sentences and class name; those of other weights are forgotten.

    Args:
      encoders: of the model.
      tokenize: texts -> int32 (N, L).
    """

    def __init__(self, encoders: embed.Encoders, tokenize: Callable[[list[str]], np.ndarray]):
        self._encoders, self._tokenize = encoders, tokenize
        self._weights: int | None = None
        self._rows: dict[_Prompts, dict[str, np.ndarray]] = {}
        self._tokens: dict[_Prompts, dict[str, np.ndarray]] = {}

    def of(
        self,
        params: Any,
        names: Sequence[str],
        sentences: Sequence[str],
        *,
        canonicalize: bool,
        batch_size: int,
    ) -> np.ndarray:
        """Unit-length embeddings of the classes, float32 (C, E).

        Args:
          params: the model's parameters.
          names: of the C classes.
          sentences: T templates.
          canonicalize: see `wording.prompts`.
          batch_size: global, of texts.
        """
        weights = fingerprint.of({TEXT: params[TEXT]})
        if weights != self._weights:
            self._weights, self._rows = weights, {}
        prompts = (tuple(sentences), canonicalize)
        rows = self._rows.setdefault(prompts, {})
        new = [name for name in dict.fromkeys(names) if name not in rows]
        if new:
            rows.update(zip(new, self._embedded(params, new, prompts, batch_size), strict=True))
        return np.stack([rows[name] for name in names])

    def _embedded(
        self, params: Any, names: Sequence[str], prompts: _Prompts, batch_size: int
    ) -> np.ndarray:
        tokens_NL = self._tokenized(names, prompts)
        each, total_CE = len(prompts[0]), None
        for rows, text_BE in embed.texts(self._encoders, params, tokens_NL, batch_size):
            if total_CE is None:
                total_CE = np.zeros((len(names), text_BE.shape[1]), np.float32)
            class_B = np.arange(rows.start, rows.stop) // each
            first = np.flatnonzero(np.diff(class_B, prepend=-1))  # of each class's rows
            total_CE[class_B[first]] += np.add.reduceat(text_BE, first, axis=0)
        assert total_CE is not None  # there is at least one class
        return total_CE / np.linalg.norm(total_CE, axis=1, keepdims=True)

    def _tokenized(self, names: Sequence[str], prompts: _Prompts) -> np.ndarray:
        """int32 (N, L); kept beyond the weights, since a run evaluates many times."""
        known = self._tokens.setdefault(prompts, {})
        new = [name for name in names if name not in known]
        if new:
            sentences, canonicalize = prompts
            texts = wording.prompts(new, sentences, canonicalize=canonicalize)
            tokens_NL = self._tokenize(texts)
            each_CTL = tokens_NL.reshape(len(new), len(sentences), -1)
            known.update(zip(new, each_CTL, strict=True))
        return np.concatenate([known[name] for name in names])
