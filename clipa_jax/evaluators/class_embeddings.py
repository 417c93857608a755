"""Text embeddings of classes, shared by the evaluators of a model.

The embedding of a class is the mean of the unit embeddings of its prompts, scaled to unit length
(CLIP, arXiv 2103.00020, section 3.1.4). Datasets with the same templates and class names, such
as ImageNet and its variants, share them.
C classes, T templates, N = C x T texts, L tokens, E embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipa_jax.evaluators import embed, prompts
from clipa_jax.evaluators.weights_cache import WeightsCache

_Prompts = tuple[tuple[str, ...], bool]  # templates, and whether prompts are canonicalized


@dataclass(frozen=True)
class ClassEmbeddings:
    """Embeddings by weights, templates and class name."""

    encoders: embed.Encoders
    tokenize: Callable[[list[str]], np.ndarray]  # texts -> int32 (N, L)
    cache: WeightsCache  # holds the embeddings of the present weights
    _tokens: dict[_Prompts, dict[str, np.ndarray]] = field(default_factory=dict, init=False)

    def of(
        self,
        params: Any,
        names: Sequence[str],
        templates: Sequence[str],
        *,
        canonicalize: bool,
        batch_size: int,
    ) -> np.ndarray:
        """Unit-length embeddings of the classes, float32 (C, E); see `prompts.prompts`.

        `batch_size` is global, of texts.
        """
        key = (tuple(templates), canonicalize)
        rows: dict[str, np.ndarray] = self.cache.get(params, key, dict)
        new = [name for name in dict.fromkeys(names) if name not in rows]
        if new:
            rows.update(zip(new, self._embedded(params, new, key, batch_size), strict=True))
        return np.stack([rows[name] for name in names])

    def _embedded(
        self, params: Any, names: Sequence[str], key: _Prompts, batch_size: int
    ) -> np.ndarray:
        tokens_NL = self._tokenized(names, key)
        num_templates, total_CE = len(key[0]), None
        tower, split = self.encoders.text, self.encoders.batch_sharding
        for rows, text_BE in embed.rows(tower, params, tokens_NL, split, batch_size):
            if total_CE is None:
                total_CE = np.zeros((len(names), text_BE.shape[1]), np.float32)
            class_B = np.arange(rows.start, rows.stop) // num_templates
            first = np.flatnonzero(np.diff(class_B, prepend=-1))  # of each class's rows
            total_CE[class_B[first]] += np.add.reduceat(text_BE, first, axis=0)
        assert total_CE is not None  # there is at least one class
        return total_CE / np.linalg.norm(total_CE, axis=1, keepdims=True)

    def _tokenized(self, names: Sequence[str], key: _Prompts) -> np.ndarray:
        """int32 (N, L); kept when the weights change, since a run evaluates many times."""
        known = self._tokens.setdefault(key, {})
        new = [name for name in names if name not in known]
        if new:
            templates, canonicalize = key
            tokens_NL = self.tokenize(prompts.prompts(new, templates, canonicalize=canonicalize))
            known.update(zip(new, tokens_NL.reshape(len(new), len(templates), -1), strict=True))
        return np.concatenate([known[name] for name in names])
