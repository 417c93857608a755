"""Errors that name the nearest legal thing."""

import pytest

from clipa_jax import errors


def test_nearest_names_the_closest():
    assert errors.nearest("batchsize", ["seed", "batch_size"]) == "nearest: batch_size"


def test_nearest_lists_all_when_none_is_close():
    assert errors.nearest("zzz", ["seed", "batch_size"]) == "legal: batch_size, seed"
    assert errors.nearest("zzz", []) == "legal: none"


def test_unknown_is_a_sentence():
    said = errors.unknown("mask", "blok", ["random", "grid", "block"])
    assert said == "unknown mask 'blok'; nearest: block"


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.DataError, errors.CheckpointError])
def test_every_kind_is_a_user_error_and_a_value_error(kind):
    assert issubclass(kind, errors.UserError)
    with pytest.raises(ValueError, match="what came"):
        raise kind("what came")


def test_missing_data_keeps_where_it_was_looked_for():
    error = errors.MissingData("no pets", dataset="pets", looked="/data/pets", command="make pets")
    named = error.of("evaluator zero_shot")
    assert isinstance(named, errors.DataError)
    assert str(named) == "evaluator zero_shot: no pets"
    assert (named.dataset, named.looked, named.command) == ("pets", "/data/pets", "make pets")
