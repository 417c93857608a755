"""The task of a classification evaluator: the data, its classes and their prompt templates."""

import functools
from dataclasses import dataclass

import numpy as np

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.evaluators import catalogue, class_names, labels, prompts
from clipa_jax.evaluators.classification import METRICS, Metric
from clipa_jax.evaluators.dataset import Dataset


@dataclass(frozen=True)
class Task:
    """A classification task, before its data is opened."""

    entry: catalogue.Entry
    language: str  # of class names and templates

    @classmethod
    def of(cls, config: catalogue.DataConfig, root: str, name: str) -> "Task":
        """The task of the evaluator `name`; see `catalogue.entry`."""
        entry = catalogue.entry(config, root, name, catalogue.CLASSIFICATION)
        for key, legal in (("metric", [*METRICS]), ("outside", [labels.ERROR, labels.LEAVE_OUT])):
            if getattr(entry, key) not in legal:
                raise ConfigError(f"evaluator {name}: {unknown(key, getattr(entry, key), legal)}")
        return cls(entry, getattr(config, "language", class_names.ENGLISH))

    @property
    def metric(self) -> Metric:
        """Scores the answers."""
        return METRICS[self.entry.metric]

    def classes(self, data: Dataset) -> tuple[tuple[str, ...], labels.Labels]:
        """The names of the classes, and the reader of labels as numbers of them.

        Raises `DataError` for no names, or names that do not fit the data.
        """
        entry, given = self.entry, self.entry.classes
        if given is None:
            names = tuple(map(catalogue.NAMINGS[entry.naming], data.class_names(entry.label)))
            class_L = np.arange(len(names))
        else:
            if not isinstance(given, class_names.Classes):
                given = class_names.classes(given, self.language)
            names = given.names
            try:
                class_L = labels.fit(given, data.opened.class_names(entry.label))
            except ValueError as error:
                raise data.error(f"label {entry.label!r}: {error}") from None
        table = entry.pictures
        labels_of = functools.partial(class_names.labels_of, table) if table else None
        return names, labels.Labels(
            entry.label, class_L, len(names), entry.outside, data.error, labels_of
        )

    def templates(self, data: Dataset) -> tuple[str, ...]:
        """The templates of the config or the catalogue, the data's own, or the bare name."""
        source = self.entry.templates or data.opened.templates() or "plain"
        return prompts.templates(source, self.language)
