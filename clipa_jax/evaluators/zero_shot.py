"""Zero-shot classification: each picture against the text of every class.

N pictures, C classes, E embedding, P pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.errors import nearest
from clipa_jax.evaluators import class_names, classification, prompts
from clipa_jax.evaluators.catalogue import DataConfig
from clipa_jax.evaluators.context import EvalContext, Evaluator, HasParams
from clipa_jax.evaluators.dataset import EvalInfo, Gallery
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.task import Task


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(DataConfig):
    """Keys of a `zero_shot` section; None stands for what the dataset has."""

    label: str | None = None  # the feature with the class (an integer) or classes (a list)
    # Names by label: a tuple, a known dataset, or the path of a JSON file.
    classes: str | Sequence[str] | None = None
    # Prompts with `{}` for the name: a tuple, a known dataset, the name of a file in
    # `evaluators/templates/`, or the path of a JSON file.
    templates: str | Sequence[str] | None = None
    metric: str | None = None  # accuracy; mean_average_precision for pictures of several classes
    outside: str | None = None  # treatment of pictures of no class: "error" or "leave_out"
    language: str = class_names.ENGLISH  # of the names and templates of a known dataset
    # Lower case without punctuation, as in the released evaluator. Off by default: a tokenizer
    # may tell "flag: Peru" from "flag Peru".
    canonicalize: bool = False
    # An integer feature that groups the pictures; adds `top1/<group>`, among all classes.
    by: str | None = None
    # Groups; adds `top1/not_<group>`, so that an easy group does not hide the rest.
    without: Sequence[str] = ()


class ZeroShot(Evaluator):
    """Top-1, top-5 and mean per-class recall over all classes, as shares in [0, 1].

    `top5` needs more than five classes. `mean_recall` leaves out classes without a picture, and
    is not reported where pictures have several classes, any of which is right.
    """

    Config = ZeroShotConfig

    def __init__(self, config: ZeroShotConfig, context: EvalContext, name: str):
        self._config, self._context = config, context
        task = Task.of(config, context.root, name)
        features = [feature for feature in (task.entry.label, config.by, "id") if feature]
        self._data = context.dataset(name, task.entry.source, task.entry.split, config, features)
        self.names, self._labels = task.classes(self._data)
        self._metric, self._templates = task.metric, task.templates(self._data)
        self._groups = self._data.class_names(config.by) if config.by else ()
        if config.by and not self._metric.hits:
            raise self._data.error(f"by={config.by!r} needs metric=accuracy")
        for group in config.without:
            if group not in self._groups:
                hint = nearest(group, self._groups or ("by=<feature> must be set",))
                raise self._data.error(f"without={group!r}: no such group; {hint}")

    def info(self) -> EvalInfo:
        """The data, and the prompts of all classes."""
        canonicalize = self._config.canonicalize
        return self._data.info(
            prompts.prompts(self.names, self._templates, canonicalize=canonicalize)
        )

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields the metrics for the parameters of `state`; a sample is a picture."""
        class_CE = self.class_embeddings(state.params)
        split = self._context.embedded(state.params, self._data)
        chunk, metric = self._data.batch_size, self._metric
        rows, kept = classification.classify(split, class_CE, self._labels, metric, chunk)
        if not len(kept):
            raise self._data.error("no pictures")
        id_N = np.asarray(unique_ids(kept.features["id"]))
        yield from metric.outcomes(id_N, rows, len(self.names))
        if self._config.by and metric.hits:
            group_N, hit_N = np.asarray(kept.features[self._config.by]), metric.hits(rows)
            without = self._config.without
            yield from classification.groups(id_N, hit_N, group_N, self._groups, without)

    def class_embeddings(self, params: Any) -> np.ndarray:
        """Unit-length embeddings of the classes, float32 (C, E)."""
        return self._context.class_embeddings.of(
            params,
            self.names,
            self._templates,
            canonicalize=self._config.canonicalize,
            batch_size=self._data.batch_size,
        )

    def gallery(self, state: HasParams) -> Gallery:
        """Every picture of some class, and all class names, as `state` embeds them."""
        split = self._context.embedded(state.params, self._data)
        pairs_P2 = self._labels.pairs(split.features)
        row_N, pairs_P2[:, 0] = np.unique(pairs_P2[:, 0], return_inverse=True)
        if not len(row_N):
            raise self._data.error("no pictures")
        class_CE, scale = self.class_embeddings(state.params), self._context.scale(state.params)
        pictures = row_N, split.position_N[row_N], self.names, split.image_NE[row_N]
        return Gallery(self._data, *pictures, class_CE, pairs_P2, scale)
