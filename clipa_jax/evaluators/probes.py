"""Linear probes: what a linear classifier on frozen features learns from a training split.

Features are the unit-length embeddings of the image tower, as for zero-shot classification.
N pictures, D features (the embedding), C classes, R repeats, K examples of a class.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from absl import logging

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.evaluators import classification, data_fingerprint, linear
from clipa_jax.evaluators.catalogue import DataConfig
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.dataset import Dataset, EvalInfo
from clipa_jax.evaluators.embed import Embedded
from clipa_jax.evaluators.labels import Labels
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.task import Task

MIN_HELD = 10_000  # examples that a drawing holds before it looks which can go
HELD_OUT_FRACTION = 5  # of the training examples, one in so many chooses among several penalties
ACCURACY = classification.METRICS["accuracy"]
L2: dict[str, tuple[float, ...]] = {
    "ridge": (2.0**10,),
    "logistic": (0.001, 0.01, 0.1, 1.0, 10.0),
}


@dataclass(frozen=True)
class Examples:
    """Features, float32 (N, D), with one class each, int64 (N,), and ids."""

    x_ND: np.ndarray
    label_N: np.ndarray
    ids: list[str]


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig(DataConfig):
    """Keys of a `linear_probe` section; `source` and `split` are the test data.

    Attributes:
      train_source: the training data, if it lies elsewhere.
      train_split: of the training data.
      label: the feature with the class.
      classes: see `ZeroShotConfig`; only their number and order matter.
      fit: ridge, as in big_vision's few-shot evaluator, or logistic, as in CLIP's linear probes.
      shots: examples of a class to learn from; () for all there are.
      repeats: draws of the examples.
      l2: strength of the penalty; several: the one that is best on a fifth of the training
        examples, which are then added. None: 2^10 for ridge, five powers of ten for logistic.
      seed: of all draws.
    """

    train_source: str | None = None
    train_split: str | None = None
    label: str | None = None
    classes: str | Sequence[str] | None = None
    fit: str = "ridge"
    shots: Sequence[int] = ()
    repeats: int = 3
    l2: float | Sequence[float] | None = None
    seed: int = 0


class LinearProbe(Evaluator):
    """A linear classifier on the training split's features, scored on the test split.

    With the whole training split: `top1`, `top5` for more than five classes, `mean_recall`. With
    `shots`: `top1_<K>shot` for each K, the mean over `repeats` draws of K examples a class; a
    draw of more examples contains all of a smaller one, and a class that has fewer gives those.
    """

    Config = LinearProbeConfig

    def __init__(self, config: LinearProbeConfig, context: EvalContext, name: str):
        task = Task.of(config, name)
        entry = task.entry
        if not entry.train_split:
            raise ConfigError(f"evaluator {name}: train_split= is needed; a probe learns from it")
        self._config, self._context = config, context
        train_source, features = config.train_source or entry.source, (entry.label, "id")
        self._test = context.dataset(name, entry.source, entry.split, config, features)
        self._train = context.dataset(name, train_source, entry.train_split, config, features)
        names, self._test_labels = task.classes(self._test)
        train_names, self._train_labels = task.classes(self._train)
        if names != train_names:
            raise self._test.error(
                f"{len(names)} classes, but {len(train_names)} in {train_source}, split "
                f"{entry.train_split}, or other names; set classes= to a table that both fit"
            )
        self._num_classes = len(names)
        if config.fit not in linear.FITS:
            raise ConfigError(f"evaluator {name}: {unknown('fit', config.fit, linear.FITS)}")
        self._fit = linear.FITS[config.fit]
        penalties = L2[config.fit] if config.l2 is None else config.l2
        self._l2 = (penalties,) if isinstance(penalties, int | float) else tuple(penalties)
        self._check(name)

    def info(self) -> EvalInfo:
        """The test split, with the training split in its fingerprint."""
        test, train = self._test.info(), self._train.info()
        both = data_fingerprint.of_texts([test.data_fingerprint, train.data_fingerprint])
        return replace(test, data_fingerprint=both)

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields the metrics for the parameters of `state`; a sample is a test picture."""
        parts = self._context.stream(state.params, self._train)
        train = (examples(part, self._train_labels, self._train) for part in parts)
        if self._config.shots:
            yield from self._few_shot(train, state)
            return
        learned = _joined(train, self._train)
        l2 = self._chosen_l2(learned)
        model = self._fit(learned.x_ND, learned.label_N, self._num_classes, l2)
        test = self._test_examples(state)
        right_NC = test.label_N[:, None] == np.arange(self._num_classes)
        rows = ACCURACY.of_batch(model.scores(test.x_ND), right_NC)
        yield from ACCURACY.outcomes(np.asarray(test.ids), rows, self._num_classes)

    def _few_shot(
        self, parts: Iterable[Examples], state: HasParams
    ) -> Iterator[tuple[str, Outcome]]:
        config = self._config
        train, order_RN = draw(parts, max(config.shots), config.repeats, config.seed)
        if not train.ids:
            raise self._train.error("no pictures")
        test = self._test_examples(state)
        for shots in config.shots:
            hits_RN = []
            for place_N in order_RN:
                drawn = place_N < shots
                x_ND, label_N = train.x_ND[drawn], train.label_N[drawn]
                model = self._fit(x_ND, label_N, self._num_classes, self._l2[0])
                hits_RN.append(np.argmax(model.scores(test.x_ND), axis=1) == test.label_N)
            yield f"top1_{shots}shot", Outcome.mean(test.ids, np.mean(hits_RN, axis=0))

    def _test_examples(self, state: HasParams) -> Examples:
        split = self._context.embedded(state.params, self._test)
        parts = split.batches(self._test.batch_size)
        return _joined(
            (examples(part, self._test_labels, self._test) for part in parts), self._test
        )

    def _chosen_l2(self, train: Examples) -> float:
        if len(self._l2) == 1:
            return self._l2[0]
        accuracy = held_out_accuracies(
            self._fit, train, self._l2, self._num_classes, self._config.seed
        )
        best = self._l2[int(np.argmax(accuracy))]
        tried = ", ".join(f"{l2:g}: {a:.3f}" for l2, a in zip(self._l2, accuracy, strict=True))
        logging.info("%s: l2=%g of %s", self._test.evaluator, best, tried)
        return best

    def _check(self, name: str) -> None:
        if not self._l2 or min(self._l2) <= 0:
            raise ConfigError(f"evaluator {name}: l2={self._l2} must be above 0")
        shots, repeats = self._config.shots, self._config.repeats
        if shots and (min(shots) < 1 or repeats < 1):
            raise ConfigError(
                f"evaluator {name}: shots={shots} and repeats={repeats} must be at least 1"
            )
        if shots and len(self._l2) > 1:
            raise ConfigError(
                f"evaluator {name}: l2={self._l2}: few examples leave none to choose by; give one"
            )


def examples(batch: Embedded, labels: Labels, data: Dataset) -> Examples:
    """The pictures of a class.

    Raises:
      DataError: a picture of several classes.
    """
    right_BC = labels.of(batch.features)
    if np.any(right_BC.sum(axis=1) > 1):
        raise data.error("a picture of several classes; a probe needs one a picture")
    row_N = np.flatnonzero(right_BC.any(axis=1))
    kept = batch.rows(row_N)
    return Examples(kept.image_NE, np.argmax(right_BC[row_N], axis=1), kept.features["id"])


def held_out_accuracies(
    fit: linear.Fit, train: Examples, penalties: Sequence[float], num_classes: int, seed: int
) -> list[float]:
    """The accuracy that each penalty gives on a fifth of the examples, which is held out."""
    rng = np.random.default_rng(seed)
    held_N = rng.permutation(len(train.ids)) % HELD_OUT_FRACTION == 0
    accuracies = []
    for l2 in penalties:
        model = fit(train.x_ND[~held_N], train.label_N[~held_N], num_classes, l2)
        answers = np.argmax(model.scores(train.x_ND[held_N]), axis=1)
        accuracies.append(float(np.mean(answers == train.label_N[held_N])))
    return accuracies


def draw(
    parts: Iterable[Examples], most: int, repeats: int, seed: int
) -> tuple[Examples, np.ndarray]:
    """Examples of which some draw has up to `most` a class, with constant memory.

    Args:
      parts: all examples, in an order that is always the same.
      most: examples of a class in a draw.
      repeats: R, independent draws.
      seed: of the draws.

    Returns:
      The examples, and int64 (R, N): the place of each in the draw of its class; those below K
      are a draw of K.
    """
    rng = np.random.default_rng(seed)
    held = [(_concatenated([]), np.zeros((repeats, 0)))]
    limit = MIN_HELD
    for part in parts:
        held.append((part, rng.random((repeats, len(part.ids)))))
        if sum(len(one.ids) for one, _ in held) > limit:
            held = [_pruned(held, most)]
            limit = max(MIN_HELD, 2 * len(held[0][0].ids))
    examples, key_RN = _pruned(held, most)
    return examples, _places(key_RN, examples.label_N)


def _pruned(held: Sequence[tuple[Examples, np.ndarray]], most: int) -> tuple[Examples, np.ndarray]:
    """What can still be among the `most` smallest keys of its class, in some repeat."""
    examples = _concatenated([one for one, _ in held])
    key_RN = np.concatenate([keys for _, keys in held], axis=1)
    rows = np.flatnonzero((_places(key_RN, examples.label_N) < most).any(axis=0))
    ids = [examples.ids[row] for row in rows]
    return Examples(examples.x_ND[rows], examples.label_N[rows], ids), key_RN[:, rows]


def _places(key_RN: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Place of each example among those of its class by its key, int64 (R, N)."""
    place_RN = np.empty(key_RN.shape, np.int64)
    for place_N, key_N in zip(place_RN, key_RN, strict=True):
        order = np.lexsort((key_N, label_N))
        first = np.append(True, np.diff(label_N[order]) != 0)  # of each class
        number = np.arange(len(order))
        place_N[order] = number - np.maximum.accumulate(np.where(first, number, 0))
    return place_RN


def _joined(parts: Iterable[Examples], data: Dataset) -> Examples:
    """All of a split: N x D numbers on every process."""
    examples = _concatenated(list(parts))
    if not examples.ids:
        raise data.error("no pictures")
    return Examples(examples.x_ND, examples.label_N, unique_ids(examples.ids))


def _concatenated(parts: Sequence[Examples]) -> Examples:
    parts = [part for part in parts if part.ids]
    if not parts:
        return Examples(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), [])
    return Examples(
        np.concatenate([part.x_ND for part in parts]),
        np.concatenate([part.label_N for part in parts]),
        [one for part in parts for one in part.ids],
    )
