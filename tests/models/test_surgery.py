"""Load-time edits, and weights that do not fit."""

import jax
import numpy as np
import pytest

from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.models import surgery


def leaves(**shapes):
    rng = np.random.default_rng(0)
    return {name.replace("__", "/"): rng.normal(size=shape) for name, shape in shapes.items()}


def shapes_of(**shapes):
    arrays = leaves(**shapes)
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in arrays.items()}


def never():
    raise AssertionError("initial parameters are not needed")


def test_weights_that_fit_are_unchanged():
    given = leaves(a=(2,), b=(3,))
    got, lines = surgery.apply((), given, shapes_of(a=(2,), b=(3,)), never)
    assert got == given
    assert lines == []


def test_named_edits_resize_positions_and_log_it():
    given = leaves(txt__pos_embedding=(1, 8, 4), img__pos_embedding=(1, 5, 4), w=(2,))
    target = shapes_of(txt__pos_embedding=(1, 32, 4), img__pos_embedding=(1, 17, 4), w=(2,))
    got, lines = surgery.apply(("text_positions", "image_positions"), given, target, never)
    assert got["txt/pos_embedding"].shape == (1, 32, 4)
    np.testing.assert_allclose(
        got["img/pos_embedding"][:, 0], given["img/pos_embedding"][:, 0], rtol=1e-6
    )
    assert got["w"] is given["w"]
    assert lines == [
        "img/pos_embedding: (1, 5, 4) -> (1, 17, 4)",
        "txt/pos_embedding: (1, 8, 4) -> (1, 32, 4)",
    ]


@pytest.mark.parametrize("length", [4, 12])
def test_kept_text_positions_are_those_of_before_and_then_copies_of_the_last(length):
    given = leaves(txt__pos_embedding=(1, 8, 4))
    target = shapes_of(txt__pos_embedding=(1, length, 4))
    got, _ = surgery.apply(("text_positions_kept",), given, target, never)
    old = given["txt/pos_embedding"]
    expected = [old[:, min(position, 7)] for position in range(length)]
    np.testing.assert_array_equal(got["txt/pos_embedding"], np.stack(expected, 1).astype("f"))


def test_an_edit_that_is_not_needed_does_nothing():
    given = leaves(txt__pos_embedding=(1, 8, 4))
    got, lines = surgery.apply(
        ("text_positions", "image_positions"), given, shapes_of(txt__pos_embedding=(1, 8, 4)), never
    )
    assert got["txt/pos_embedding"] is given["txt/pos_embedding"]
    assert lines == []


def test_fresh_initializes_the_matching_leaves():
    given, initial = leaves(head__kernel=(4, 2), w=(2,)), leaves(head__kernel=(4, 8), w=(2,))
    target = shapes_of(head__kernel=(4, 8), w=(2,))
    got, lines = surgery.apply(("fresh:head/.*",), given, target, lambda: initial)
    assert got["head/kernel"] is initial["head/kernel"]
    assert got["w"] is given["w"]
    assert lines == ["head/kernel: (4, 2) -> (4, 8)"]


def test_fresh_leaves_of_the_same_shape_are_logged():
    given, initial = leaves(w=(2,)), {"w": np.zeros(2)}
    got, lines = surgery.apply(("fresh:w",), given, shapes_of(w=(2,)), lambda: initial)
    assert got["w"] is initial["w"]
    assert lines == ["w (2,): initialized"]


def test_drop_leaves_out_what_the_model_lacks():
    got, lines = surgery.apply(
        ("drop:old/.*",), leaves(old__w=(3,), w=(2,)), shapes_of(w=(2,)), never
    )
    assert list(got) == ["w"]
    assert lines == ["old/w (3,): dropped"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"w": (2,)}, r"b: missing, expected \(3,\)"),
        ({"w": (2,), "b": (3,), "c": (1,)}, r"c: extra, \(1,\)"),
        ({"w": (2,), "b": (4,)}, r"b: shape \(4,\), expected \(3,\)"),
    ],
    ids=["missing", "extra", "shape"],
)
def test_a_leaf_that_does_not_fit_and_no_edit_names_is_refused(given, said):
    with pytest.raises(CheckpointError, match=f"do not fit the model: {said}.*surgery="):
        surgery.apply(("text_positions",), leaves(**given), shapes_of(w=(2,), b=(3,)), never)


@pytest.mark.parametrize("edit", ["text_position", "fresh:", "drop", "eval:1"])
def test_unknown_surgery_is_refused(edit):
    with pytest.raises(ConfigError, match="unknown surgery"):
        surgery.check([edit])


def test_unknown_surgery_names_the_nearest():
    with pytest.raises(ConfigError, match="nearest: text_positions"):
        surgery.check(["text_position"])
