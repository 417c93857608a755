"""Where a stage starts: at its checkpoint, from given weights, or from scratch."""

import numpy as np
import pytest

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout
from tests.helpers.checkpoints import assert_same, first_state, numbers, save, spec, state


class Weights:
    """Weights at a path that any path stands for."""

    def __init__(self, leaves):
        self.leaves, self.opened, self.shapes = leaves, [], None

    def open(self, path):
        self.opened.append(path)
        return self

    def read_like(self, shapes):
        self.shapes = shapes
        return self.leaves


def test_without_init_the_state_starts_from_scratch(tmp_path):
    start = first_state(tmp_path, spec())
    assert_same(start.state, spec().init(7))
    assert (start.position, start.lines) == ({}, ["starts from scratch"])


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_init_gives_the_weights_and_nothing_else(tmp_path, layers):
    given = trees.flatten(layout.unroll(state(spec(), step=5).params))
    weights = Weights({name: np.asarray(leaf, np.float64) for name, leaf in given.items()})
    start = first_state(tmp_path, spec(layers), init="some.npz", open_weights=weights.open)
    assert weights.opened == ["some.npz"] and set(weights.shapes) == set(given)
    got, fresh = numbers(start.state), numbers(spec(layers).init(7))
    for name, leaf in got.items():
        expected = given[name.removeprefix("params/")] if "params" in name else fresh[name]
        assert leaf.dtype == fresh[name].dtype
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected), err_msg=name)
    assert start.position == {}
    assert start.lines == ["starts from the weights in some.npz, optimizer fresh, step 0"]


def test_init_goes_through_surgery(tmp_path):
    given = trees.flatten(layout.unroll(state(spec(), step=5).params))
    given["txt/pos_embedding"] = given["txt/pos_embedding"][:, :2]
    del given["img/head/kernel"]
    arguments = {"init": "some.npz", "open_weights": Weights(given).open}
    with pytest.raises(CheckpointError, match=r"img/head/kernel: missing.*shape \(1, 2, 8\)"):
        first_state(tmp_path, spec(), **arguments)
    edits = ("text_positions", "fresh:img/head/.*")
    start = first_state(tmp_path, spec(), edits=edits, **arguments)
    assert start.state.params["txt"]["pos_embedding"].shape == (1, 4, 8)
    np.testing.assert_array_equal(
        start.state.params["img"]["head"]["kernel"],
        spec().init(7).params["img"]["head"]["kernel"],
    )
    assert len(start.lines) >= 3
    assert "txt/pos_embedding: (1, 2, 8) -> (1, 4, 8)" in start.lines


def test_a_checkpoint_of_the_stage_takes_precedence_over_init(tmp_path):
    saved = state(spec(), step=5)
    save(tmp_path, saved)
    start = first_state(tmp_path, spec(), init="some.npz", edits=("text_positions",))
    assert_same(start.state, saved)
    assert start.position["step"] == 5
