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

MIN_HELD = 10_000  # buffered examples, after which those that no draw needs are dropped
HELD_OUT_ONE_IN = 5  # training examples, of which one is held out to choose the penalty
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

    @classmethod
    def joined(cls, parts: Iterable["Examples"]) -> "Examples":
        """All of them; features (0, 0) for none."""
        parts = [part for part in parts if part.ids]
        if not parts:
            return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), [])
        return cls(
            np.concatenate([part.x_ND for part in parts]),
            np.concatenate([part.label_N for part in parts]),
            [id_ for part in parts for id_ in part.ids],
        )

    def rows(self, row_X: np.ndarray) -> "Examples":
        """Some, by their numbers or a mask."""
        ids = np.asarray(self.ids, object)[row_X].tolist()
        return Examples(self.x_ND[row_X], self.label_N[row_X], ids)


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig(DataConfig):
    """Keys of a `linear_probe` section; `source` and `split` are the test data."""

    train_source: str | None = None  # the training data, if it lies elsewhere
    train_split: str | None = None
    label: str | None = None  # the feature with the class
    classes: str | Sequence[str] | None = None  # as in `ZeroShotConfig`; the names do not matter
    fit: str = "ridge"  # as in big_vision's few-shot evaluator; logistic as in CLIP's probes
    shots: Sequence[int] = ()  # examples of a class to learn from; () for all there are
    repeats: int = 3  # draws of the examples
    # Strength of the penalty; of several the one that is best on a fifth of the training examples,
    # which are then added. None: `L2`.
    l2: float | Sequence[float] | None = None
    seed: int = 0  # of all draws


class LinearProbe(Evaluator):
    """A linear classifier on the training split's features, scored on the test split.

    With the whole training split: `top1`, `top5` for more than five classes, `mean_recall`. With
    `shots`: `top1_<K>shot` for each K, the mean over `repeats` draws of K examples a class; a
    draw of more examples contains all of a smaller one, and a class that has fewer gives those.
    """

    Config = LinearProbeConfig

    def __init__(self, config: LinearProbeConfig, context: EvalContext, name: str):
        task = Task.of(config, context.root, name)
        entry = task.entry
        self._config, self._context = config, context
        self._l2 = _penalties(config, name)
        if not entry.train_split:
            raise ConfigError(f"evaluator {name}: train_split= is needed; a probe learns from it")
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
        self._num_classes, self._fit = len(names), linear.FITS[config.fit]

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
        learned = _nonempty(Examples.joined(train), self._train)
        model = self._fitted(learned, self._chosen_l2(learned))
        test = self._test_examples(state)
        right_NC = test.label_N[:, None] == np.arange(self._num_classes)
        rows = ACCURACY.of_batch(model.scores(test.x_ND), right_NC)
        yield from ACCURACY.outcomes(np.asarray(test.ids), rows, self._num_classes)

    def _few_shot(
        self, parts: Iterable[Examples], state: HasParams
    ) -> Iterator[tuple[str, Outcome]]:
        config = self._config
        train, place_RN = draw(parts, max(config.shots), config.repeats, config.seed)
        _nonempty(train, self._train)
        test = self._test_examples(state)
        for shots in config.shots:
            models = [
                self._fitted(train.rows(place_N < shots), self._l2[0]) for place_N in place_RN
            ]
            hits_RN = [
                np.argmax(model.scores(test.x_ND), axis=1) == test.label_N for model in models
            ]
            yield f"top1_{shots}shot", Outcome.mean(test.ids, np.mean(hits_RN, axis=0))

    def _fitted(self, train: Examples, l2: float) -> linear.Linear:
        return self._fit(train.x_ND, train.label_N, self._num_classes, l2)

    def _test_examples(self, state: HasParams) -> Examples:
        split = self._context.embedded(state.params, self._test)
        test = _nonempty(examples(split, self._test_labels, self._test), self._test)
        return replace(test, ids=unique_ids(test.ids))

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


def _penalties(config: LinearProbeConfig, name: str) -> tuple[float, ...]:
    """The penalties to choose from; checks the keys that do not concern the data."""
    fit, shots, repeats = config.fit, config.shots, config.repeats
    if fit not in linear.FITS:
        raise ConfigError(f"evaluator {name}: {unknown('fit', fit, linear.FITS)}")
    given = L2[fit] if config.l2 is None else config.l2
    l2 = (given,) if isinstance(given, int | float) else tuple(given)
    message = ""
    if not l2 or min(l2) <= 0:
        message = f"l2={l2} must be above 0"
    elif shots and (min(shots) < 1 or repeats < 1):
        message = f"shots={shots} and repeats={repeats} must be at least 1"
    elif shots and len(l2) > 1:
        message = f"l2={l2}: few examples leave none to choose by; give one"
    if message:
        raise ConfigError(f"evaluator {name}: {message}")
    return l2


def examples(part: Embedded, labels: Labels, data: Dataset) -> Examples:
    """The pictures of a class; one of several classes is a `DataError`."""
    row_N, class_N = labels.pairs(part.features).T
    if len(np.unique(row_N)) < len(row_N):
        raise data.error("a picture of several classes; a probe needs one a picture")
    kept = part.rows(row_N)
    return Examples(kept.image_NE, class_N, kept.features["id"])


def _nonempty(examples: Examples, data: Dataset) -> Examples:
    """The examples; raises `DataError` for none."""
    if not examples.ids:
        raise data.error("no pictures")
    return examples


def held_out_accuracies(
    fit: linear.Fit, train: Examples, penalties: Sequence[float], num_classes: int, seed: int
) -> list[float]:
    """The accuracy that each penalty gives on a fifth of the examples, which is held out."""
    rng = np.random.default_rng(seed)
    held_N = rng.permutation(len(train.ids)) % HELD_OUT_ONE_IN == 0
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

    `parts` are all examples, in an order that is always the same. Returns those of R = `repeats`
    independent draws, and int64 (R, N): the place of each in the draw of its class; those below K
    are a draw of K.
    """
    rng, limit = np.random.default_rng(seed), MIN_HELD
    held, keys = [Examples.joined([])], [np.zeros((repeats, 0))]
    for part in parts:
        held.append(part)
        keys.append(rng.random((repeats, len(part.ids))))
        if sum(len(examples.ids) for examples in held) > limit:
            held, keys = _pruned(held, keys, most)
            limit = max(MIN_HELD, 2 * len(held[0].ids))
    [examples], [key_RN] = _pruned(held, keys, most)
    return examples, _places(key_RN, examples.label_N)


def _pruned(
    held: list[Examples], keys: list[np.ndarray], most: int
) -> tuple[list[Examples], list[np.ndarray]]:
    """Those that can still be among the `most` smallest keys of their class, in some repeat."""
    examples, key_RN = Examples.joined(held), np.concatenate(keys, axis=1)
    kept_N = np.any(_places(key_RN, examples.label_N) < most, axis=0)
    return [examples.rows(kept_N)], [key_RN[:, kept_N]]


def _places(key_RN: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """Place of each example among those of its class by its key, int64 (R, N)."""
    place_RN = np.empty(key_RN.shape, np.int64)
    for place_N, key_N in zip(place_RN, key_RN, strict=True):
        order = np.lexsort((key_N, label_N))
        first = np.append(True, np.diff(label_N[order]) != 0)  # of each class
        number = np.arange(len(order))
        place_N[order] = number - np.maximum.accumulate(np.where(first, number, 0))
    return place_RN
