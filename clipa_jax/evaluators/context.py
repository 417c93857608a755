"""The context of evaluation: towers, tokenizer, and the embeddings that evaluators share."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from clipa_jax.data import eval_batches, pipeline
from clipa_jax.errors import DataError, MissingData, UserError
from clipa_jax.evaluators import embed
from clipa_jax.evaluators.class_embeddings import ClassEmbeddings
from clipa_jax.evaluators.dataset import Dataset, EvalInfo, ReadConfig
from clipa_jax.evaluators.outcome import Outcome
from clipa_jax.evaluators.weights_cache import WeightsCache
from clipa_jax.models import clip


class HasParams(Protocol):
    """A train state, or any other holder of a model's parameters."""

    @property
    def params(self) -> Any: ...


class Evaluator(Protocol):
    """Built cheaply before training, run many times during and after it.

    Constructors take the keys of the section (an object of the class's `Config`), the context,
    and the evaluator's name for messages.
    """

    def info(self) -> EvalInfo:
        """The data and prompts, without evaluating."""
        ...

    def outcomes(self, state: HasParams, /) -> Iterator[tuple[str, Outcome]]:
        """Pairs (metric, outcome) for the parameters of `state`; the same on every process."""
        ...


@dataclass(frozen=True)
class EvalContext:
    """State that the evaluators of a model share.

    Embeddings are kept for one set of weights: a split is decoded and embedded once however
    many evaluators use it, and other weights replace what is kept.
    """

    encoders: embed.Encoders
    tokenize: Callable[[list[str]], np.ndarray]  # texts -> int32 (N, L), as in training
    preprocess_image: str  # makes a uint8 picture of the model's size: "decode|resize(64)"
    temperature_max: float | None = None  # cap of the inverse temperature; None for none
    root: str = ""  # a folder with datasets, for evaluators that name none
    _cache: WeightsCache = field(default_factory=WeightsCache, init=False, repr=False)
    _features: dict[Any, dict[str, None]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of_model(cls, model: Any, root: str = "") -> "EvalContext":
        """The context of a model from `clipa_jax.load`; `root` as in the attribute."""
        inputs = model.config.input
        return cls(
            encoders=model.encoders,
            tokenize=model.tokenize,
            preprocess_image=pipeline.fill(inputs.preprocess_eval, inputs),
            temperature_max=model.config.model.temperature_max,
            root=root,
        )

    def dataset(
        self, evaluator: str, source: str, split: str, config: ReadConfig, features: Sequence[str]
    ) -> Dataset:
        """Checks that a split is there, without reading it.

        `features` are read beside the picture. Missing data or features are a `DataError` that
        names the evaluator.
        """
        size = config.batch_size
        if size < 1:
            raise DataError(f"evaluator {evaluator}: batch_size={size} must be at least 1")
        try:
            opened = eval_batches.listed(source, split, tuple(features))
            opened.check_features(features)
        except MissingData as error:
            raise error.of(f"evaluator {evaluator}") from None
        except UserError as error:
            raise DataError(f"evaluator {evaluator}: {error}") from None
        preprocess = self.preprocess_image if config.preprocess is None else config.preprocess
        size = embed.round_up(size, self.encoders.batch_sharding)
        shared = self._features.setdefault((source, split, preprocess, size), {})
        shared.update(dict.fromkeys(features))
        return Dataset(evaluator, source, split, preprocess, size, shared, opened)

    def embedded(self, params: Any, data: Dataset) -> embed.Embedded:
        """The whole split, kept until the weights change; `DataError` if it has no pictures."""

        def compute() -> embed.Embedded:
            return embed.concatenated(list(self.stream(params, data)))

        whole = self._cache.get(params, (data.key, tuple(data.features)), compute)
        if not len(whole):
            raise data.error("no pictures")
        return whole

    def stream(self, params: Any, data: Dataset) -> Iterator[embed.Embedded]:
        """The split batch by batch, of which nothing is kept: for large training splits."""
        return embed.images(self.encoders, params, data.batches())

    def texts(self, params: Any, texts: Sequence[str], batch_size: int) -> np.ndarray:
        """Unit-length embeddings of texts, float32 (N, E); kept until the weights change."""

        def compute() -> np.ndarray:
            tokens_NL = self.tokenize(list(texts))
            encoders = self.encoders
            split = encoders.batch_sharding
            parts = embed.rows(encoders.text, params, tokens_NL, split, batch_size)
            return np.concatenate([z_BE for _, z_BE in parts])

        return self._cache.get(params, (tuple(texts), batch_size), compute)

    @functools.cached_property
    def class_embeddings(self) -> ClassEmbeddings:
        """Text embeddings of classes, kept until the weights change."""
        return ClassEmbeddings(self.encoders, self.tokenize, self._cache)

    def scale(self, params: Any) -> float:
        """The inverse temperature of a model with these parameters."""
        return float(clip.inverse_temperature(params["t"], self.temperature_max))
