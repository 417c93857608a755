"""The task of a classification evaluator: the data, its classes and their prompt templates."""

import functools
from dataclasses import dataclass, fields, replace

import numpy as np

from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import catalogue, labels, prompts, tables
from clipa_jax.evaluators.classification import METRICS, Metric
from clipa_jax.evaluators.dataset import Dataset

PLAIN = "plain"


@dataclass(frozen=True)
class Task:
    """A classification task, before its data is opened.

    Attributes:
      entry: of the catalogue, with the keys of the config in place of its own.
      language: of class names and templates.
    """

    entry: catalogue.Entry
    language: str

    @classmethod
    def of(cls, config: catalogue.DataConfig, name: str) -> "Task":
        """The task of an evaluator.

        Args:
          config: its keys; those called like an attribute of `catalogue.Entry` replace it.
          name: of the evaluator, for messages.

        Raises:
          ConfigError: something is missing, or not legal.
          MissingData: the catalogue does not find the data.
        """
        try:
            entry = catalogue.choose(
                config.dataset, config.root, config.source, catalogue.CLASSIFICATION
            )
        except MissingData as error:
            raise error.of(f"evaluator {name}") from None
        given = {field.name: getattr(config, field.name, None) for field in fields(entry)}
        entry = replace(entry, **{key: value for key, value in given.items() if value is not None})
        for key in ("source", "split"):
            if not getattr(entry, key):
                raise ConfigError(
                    f"evaluator {name}: {key}= is needed, or dataset= with a known name"
                )
        for key, legal in (("metric", [*METRICS]), ("outside", [labels.ERROR, labels.LEAVE_OUT])):
            if getattr(entry, key) not in legal:
                raise ConfigError(f"evaluator {name}: {unknown(key, getattr(entry, key), legal)}")
        return cls(entry, getattr(config, "language", tables.ENGLISH))

    @property
    def metric(self) -> Metric:
        """Scores the answers."""
        return METRICS[self.entry.metric]

    def classes(self, data: Dataset) -> tuple[tuple[str, ...], labels.Labels]:
        """The names of the classes, and the reader of labels as numbers of them.

        Raises:
          DataError: no names, or names that do not fit the data.
        """
        label, given = self.entry.label, self.entry.classes
        if given is None:
            names = tuple(catalogue.NAMINGS[self.entry.naming](data.class_names(label)))
            class_L = np.arange(len(names))
        else:
            if not isinstance(given, tables.Classes):
                given = tables.classes(given, self.language)
            names = given.names
            try:
                class_L = labels.fit(given, data.opened.class_names(label))
            except ValueError as error:
                raise data.error(f"label {label!r}: {error}") from None
        pictures, labels_of = self.entry.pictures, None
        if pictures:
            labels_of = functools.partial(tables.labels_of, pictures)
        return names, labels.Labels(
            label, class_L, len(names), self.entry.outside, data.error, labels_of
        )

    def templates(self, data: Dataset) -> tuple[str, ...]:
        """The templates of the config or the catalogue, the data's own, or the bare name."""
        source = self.entry.templates or data.opened.templates() or PLAIN
        return prompts.templates(source, self.language)
