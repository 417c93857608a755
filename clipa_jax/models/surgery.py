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


def _image_positions(table_1PD: Any, length: int) -> Any:
    return positions.resize_2d(table_1PD, length - 1)


# Learned positions that change their number: the leaf, and the function of (table, new length).
# Sin-cos positions are not stored: the model computes them for its own grid.
EDITS: dict[str, tuple[str, Callable[[Any, int], Any]]] = {
    "text_positions": ("txt/pos_embedding", positions.resize_1d),
    "text_positions_kept": ("txt/pos_embedding", positions.extend_1d),
    "image_positions": ("img/pos_embedding", _image_positions),
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
        trees.rules([(pattern, True)], bool, "surgery")


def apply(
    edits: Sequence[str],
    leaves: Leaves,
    target: Shapes,
    fresh: Callable[[], Mapping[str, Any]],
) -> tuple[Leaves, list[str]]:
    """Edits weights by name until they fit the model: (weights, a log line for each changed leaf).

    Applies `edits` in order. `target` are the parameters of the model by name; `fresh`, called only
    if needed, returns its initial ones. Raises `CheckpointError` with the first leaves and shapes
    if the result does not fit.
    """
    check(edits)
    before = dict(leaves)
    for edit in edits:
        name, _, pattern = edit.partition(":")
        if edit in EDITS:
            leaves = _resize(edit, leaves, target)
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


def _resize(edit: str, leaves: Leaves, target: Shapes) -> Leaves:
    leaf, resize = EDITS[edit]
    if leaf not in leaves or leaf not in target or leaves[leaf].shape == target[leaf].shape:
        return leaves
    return {**leaves, leaf: resize(leaves[leaf], target[leaf].shape[1])}


def _log(before: Leaves, after: Leaves) -> list[str]:
    lines = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if new is None:
            lines.append(f"{name} {tuple(before[name].shape)}: dropped")
        elif old is not None and old.shape != new.shape:
            lines.append(f"{name}: {tuple(old.shape)} -> {tuple(new.shape)}")
        elif old is not new:
            lines.append(f"{name} {tuple(new.shape)}: initialized")
    return lines
