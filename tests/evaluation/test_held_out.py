import dataclasses
import json

import numpy as np
import pytest

from clipa_jax.errors import DataError
from clipa_jax.evaluation import held_out
from clipa_jax.training import workdir
from tests.helpers import fake_runs


def test_what_is_saved_comes_back(tmp_path):
    assert held_out.load(tmp_path) is None
    held = fake_runs.held()
    held_out.save(held, tmp_path)
    again = held_out.load(tmp_path)
    np.testing.assert_array_equal(again.image_NSSC, held.image_NSSC)
    for field in dataclasses.fields(held):
        if field.name != "image_NSSC":
            assert getattr(again, field.name) == getattr(held, field.name)


def damage_texts(texts):
    del texts["shown"][0]["top"]


def point_outside(texts):
    texts["sought"][0]["top"][0]["picture"] = 99


def another_format(texts):
    texts["format"] = 2


@pytest.mark.parametrize("change", [damage_texts, point_outside, another_format])
def test_damaged_texts_are_a_sentence(tmp_path, change):
    held_out.save(fake_runs.held(), tmp_path)
    texts = json.loads((tmp_path / workdir.HELD_OUT).read_text())
    change(texts)
    (tmp_path / workdir.HELD_OUT).write_text(json.dumps(texts))
    with pytest.raises(DataError, match="held_out.json and held_out.npz beside it cannot be read"):
        held_out.load(tmp_path)


@pytest.mark.parametrize("pictures", [np.zeros((3, 8, 8, 3), np.float32), np.array([{}])])
def test_pictures_of_another_type_are_refused_and_nothing_is_unpickled(tmp_path, pictures):
    held_out.save(fake_runs.held(), tmp_path)
    np.savez(tmp_path / workdir.HELD_OUT_PICTURES, image=pictures)
    with pytest.raises(DataError, match="cannot be read"):
        held_out.load(tmp_path)
