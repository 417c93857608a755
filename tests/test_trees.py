"""Names of leaves, and first-match rules over them."""

import jax
import numpy as np
import pytest

from clipa_jax import trees
from clipa_jax.errors import ConfigError

TREE = {"b": {"kernel": np.zeros((2, 3)), "bias": np.ones(3)}, "a": np.arange(4)}
NAMES = ["a", "b/bias", "b/kernel"]


def test_flatten_names_leaves_in_tree_order():
    flat = trees.flatten(TREE)
    assert list(flat) == NAMES
    assert [x.shape for x in flat.values()] == [x.shape for x in jax.tree.leaves(TREE)]


def test_flatten_names_positions_in_tuples_and_dataclasses():
    import optax

    moments = optax.scale_by_adam().init({"w": np.zeros(2)})
    assert list(trees.flatten((moments,))) == ["0/count", "0/mu/w", "0/nu/w"]


def test_unflatten_is_the_inverse():
    again = trees.unflatten(trees.flatten(TREE))
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    assert again["b"]["kernel"] is TREE["b"]["kernel"]


def test_map_with_names_walks_several_trees():
    summed = trees.map_with_names(lambda name, x, y: (name, float(x.sum() + y)), TREE, TREE_OF_ONES)
    assert summed == {"b": {"kernel": ("b/kernel", 1.0), "bias": ("b/bias", 4.0)}, "a": ("a", 7.0)}


TREE_OF_ONES = {"b": {"kernel": 1.0, "bias": 1.0}, "a": 1.0}


def test_first_takes_the_first_rule_that_matches_all_of_the_name():
    rules = [(r"b/k", 1), (r"b/.*", 2), (r".*", 3)]
    assert [trees.first(rules, name, 0) for name in NAMES] == [3, 2, 2]
    assert trees.first(rules[:1], "b/kernel", 0) == 0


def test_match_gives_every_name_a_value():
    rules = [(r".*/bias", 0.5), (r"b/.*", 2.0)]
    assert trees.match(rules, NAMES, 1.0) == {"a": 1.0, "b/bias": 0.5, "b/kernel": 2.0}


@pytest.mark.parametrize(
    ("rules", "idle"),
    [([(r"b/kernal", 1)], "b/kernal"), ([(r"b/.*", 1), (r".*/bias", 2)], r".\*/bias")],
    ids=["misspelt", "hidden by an earlier one"],
)
def test_match_refuses_a_rule_that_does_nothing(rules, idle):
    with pytest.raises(ConfigError, match=f"my rule '{idle}' matches no parameter"):
        trees.match(rules, NAMES, 0, what="my rule")


def test_an_unused_rule_names_the_nearest_parameter():
    with pytest.raises(ConfigError, match="nearest: b/kernel"):
        trees.match([(r"b/kernal", 1)], NAMES, 0)


def test_count_adds_up_scalars():
    assert trees.count(TREE) == 2 * 3 + 3 + 4


def test_same_layout_describes_differences():
    got = {"a": np.zeros(4), "c": np.zeros(1), "d": np.zeros((2, 2))}
    expected = {"a": np.zeros(4), "b": np.zeros(3), "d": np.zeros((2, 3))}
    assert trees.same_layout(got, expected) == [
        "b: missing, expected (3,)",
        "c: extra, (1,)",
        "d: shape (2, 2), expected (2, 3)",
    ]
    assert trees.same_layout(expected, expected) == []


def test_same_layout_lists_at_most_a_few_leaves():
    got = {f"x{i}": np.zeros(1) for i in range(9)}
    lines = trees.same_layout(got, {}, limit=3)
    assert lines == ["x0: extra, (1,)", "x1: extra, (1,)", "x2: extra, (1,)", "and 6 more"]


@pytest.mark.parametrize("pairs", [(("(", 1),), ((1, 2),), (("a",),), ("ab",), (("a", "x"),), 5])
def test_rules_that_are_no_pairs_of_regex_and_value_are_refused(pairs):
    with pytest.raises(ConfigError, match="my rules=.*expected pairs of a regular expression"):
        trees.rules(pairs, float, "my rules")
