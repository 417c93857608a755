"""Results that belong to one set of weights."""

import operator
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

from clipa_jax.runtime import fingerprint

Result = TypeVar("Result")


class WeightsCache:
    """Keeps results by key, and drops all of them when the weights change."""

    def __init__(self) -> None:
        self._weights: int | None = None
        self._leaves: list[weakref.ref[Any]] = []  # of the last parameters
        self._results: dict[Hashable, Any] = {}

    def get(self, params: Any, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result of `compute` for these parameters; every process must call it."""
        self._select(params)
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]

    def _select(self, params: Any) -> None:
        """Drops the results unless they belong to these parameters.

        Arrays do not change, so the same arrays need no fingerprint.
        """
        leaves = jax.tree.leaves(params)
        known = [reference() for reference in self._leaves]
        if len(leaves) == len(known) and all(map(operator.is_, leaves, known)):
            return
        weights = fingerprint.of(params)
        if weights != self._weights:
            self._weights, self._results = weights, {}
        self._leaves = [weakref.ref(leaf) for leaf in leaves]
