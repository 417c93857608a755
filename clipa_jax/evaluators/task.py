"""What a classification evaluator is asked: the data, its classes and their sentences."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import catalogue, labels, prompts, tables
from clipa_jax.evaluators.classification import METRICS, Metric
from clipa_jax.evaluators.dataset import Dataset

PLAIN = "plain"


@dataclass(frozen=True)
class Question:
    """A classification task, before its data is opened.

    Attributes:
      entry: what the catalogue says, or the evaluator's arguments say instead.
      language: of names and sentences.
    """

    entry: catalogue.Entry
    language: str

    @property
    def metric(self) -> Metric:
        """How answers are scored."""
        return METRICS[self.entry.metric]

    def classes(self, data: Dataset) -> tuple[tuple[str, ...], labels.Labels]:
        """The names of the classes, and who reads labels as numbers of them.

        Raises:
          DataError: no names, or names that do not fit the data.
        """
        label, given = self.entry.label, self.entry.classes
        if given is None:
            names = tuple(catalogue.NAMINGS[self.entry.naming](data.class_names(label)))
            class_L = np.arange(len(names))
        else:
            table = given if isinstance(given, tables.Classes) else self._table(given)
            names, own = table.names, data.own_names(label)
            try:
                class_L = labels.fit(table, own)
            except ValueError as error:
                raise data.error(f"label {label!r}: {error}") from None
        pictures, labels_of = self.entry.pictures, None
        if pictures:
            labels_of = functools.partial(tables.labels_of, pictures)
        return names, labels.Labels(
            label, class_L, len(names), self.entry.outside, data.error, labels_of
        )

    def sentences(self, data: Dataset) -> tuple[str, ...]:
        """The templates: those asked for, the data's own, or the bare name."""
        chosen = self.entry.templates or data.opened.templates() or PLAIN
        return prompts.templates(chosen, self.language)

    def _table(self, given: str | Sequence[str]) -> tables.Classes:
        return tables.classes(given, self.language)


def ask(
    name: str,
    dataset: str | None,
    root: str,
    given: Mapping[str, Any],
    language: str = tables.ENGLISH,
) -> Question:
    """The question of an evaluator.

    Args:
      name: of the evaluator, for messages.
      dataset, root: see `catalogue.choose`.
      given: attributes of the entry that the evaluator says itself; None where it does not.
      language: of names and sentences.

    Raises:
      ConfigError: something is missing, or not legal.
      MissingData: the catalogue does not find the data.
    """
    try:
        entry = catalogue.choose(dataset, root, given["source"], catalogue.CLASSIFICATION)
    except MissingData as error:
        raise error.of(f"evaluator {name}") from None
    entry = replace(entry, **{key: value for key, value in given.items() if value is not None})
    for key in ("source", "split"):
        if not getattr(entry, key):
            raise ConfigError(f"evaluator {name}: {key}= is needed, or dataset= with a known name")
    for key, legal in (("metric", [*METRICS]), ("outside", [labels.ERROR, labels.LEAVE_OUT])):
        if getattr(entry, key) not in legal:
            raise ConfigError(f"evaluator {name}: {unknown(key, getattr(entry, key), legal)}")
    return Question(entry, language)
