"""Named edits that fit the weights of one stage to the model of the next.

A stage lists its edits in `surgery=`. A leaf that is missing, extra or of another shape stops the
run unless an edit names it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from clipa_jax import trees
from clipa_jax.errors import CheckpointError, ConfigError, unknown
from clipa_jax.models import positions

Leaves = dict[str, Any]
Shapes = Mapping[str, jax.ShapeDtypeStruct]


def text_positions(leaves: Leaves, target: Shapes) -> Leaves:
    """Resizes the learned text positions linearly to the new number of tokens."""
    return _resized(
        "txt/pos_embedding",
        leaves,
        target,
        lambda table, shape: positions.resize_1d(table, shape[1]),
    )


def image_positions(leaves: Leaves, target: Shapes) -> Leaves:
    """Resizes learned image positions to the new grid, the class row apart.

    Sin-cos positions are not stored: the model computes them for its own grid.
    """
    return _resized(
        "img/pos_embedding",
        leaves,
        target,
        lambda table, shape: positions.resize_2d(table, shape[1] - 1),
    )


EDITS: dict[str, Callable[[Leaves, Shapes], Leaves]] = {
    "text_positions": text_positions,
    "image_positions": image_positions,
}
PATTERN_EDITS = ("fresh", "drop")


def check(edits: Sequence[str]) -> None:
    """Raises `ConfigError` unless all edits are known.

    `fresh:REGEX` initializes the matching parameters, `drop:REGEX` leaves out weights that the
    model does not have; `EDITS` has the others.
    """
    for edit in edits:
        name, _, pattern = edit.partition(":")
        if edit not in EDITS and (name not in PATTERN_EDITS or not pattern):
            raise ConfigError(unknown("surgery", edit, [*EDITS, "fresh:REGEX", "drop:REGEX"]))


def apply(
    edits: Sequence[str],
    leaves: Leaves,
    target: Shapes,
    fresh: Callable[[], Mapping[str, Any]],
) -> tuple[Leaves, list[str]]:
    """Edits weights until they fit the model.

    Args:
      edits: names in `EDITS`, `fresh:REGEX` or `drop:REGEX`, in order.
      leaves: weights by name.
      target: the model's parameters by name.
      fresh: returns the model's initial parameters; called only if needed.

    Returns:
      (fitted weights, a log line for each changed leaf).

    Raises:
      CheckpointError: the result does not fit the model; names the first leaves and shapes.
    """
    check(edits)
    before = dict(leaves)
    for edit in edits:
        name, _, pattern = edit.partition(":")
        if edit in EDITS:
            leaves = EDITS[edit](leaves, target)
        elif name == "drop":
            leaves = {n: x for n, x in leaves.items() if not re.fullmatch(pattern, n)}
        else:
            initial = {n: x for n, x in fresh().items() if re.fullmatch(pattern, n)}
            leaves = {**leaves, **initial}
    wrong = trees.same_layout(leaves, target)
    if wrong:
        raise CheckpointError(
            "the weights do not fit the model: " + "; ".join(wrong) + ". Name the edit that "
            f"fits them in surgery= ({', '.join(EDITS)}, fresh:REGEX, drop:REGEX)"
        )
    return leaves, _log(before, leaves)


def _resized(
    name: str,
    leaves: Leaves,
    target: Shapes,
    resize: Callable[[Any, tuple[int, ...]], Any],
) -> Leaves:
    if name not in leaves or name not in target or leaves[name].shape == target[name].shape:
        return leaves
    return {**leaves, name: resize(leaves[name], target[name].shape)}


def _log(before: Leaves, after: Leaves) -> list[str]:
    lines = []
    for name in sorted({*before, *after}):
        if name not in after:
            lines.append(f"{name} {tuple(before[name].shape)}: dropped")
        elif name not in before:
            lines.append(f"{name} {tuple(after[name].shape)}: initialized")
        elif before[name].shape != after[name].shape:
            lines.append(f"{name}: {tuple(before[name].shape)} -> {tuple(after[name].shape)}")
        elif before[name] is not after[name]:
            lines.append(f"{name} {tuple(after[name].shape)}: initialized")
    return lines
