import numpy as np
import pytest

from clipa_jax.evaluators import labels
from clipa_jax.evaluators.class_names import Classes

ANIMALS = Classes(("great white shark", "hen", "newt", "Sphynx"), ("n01", "n02", "n03", "n04"))


def test_keys_of_the_table_decide():
    own = ["n01", "n03", "n04", "n02", "n99"]
    assert labels.fit(ANIMALS, own).tolist() == [0, 2, 3, 1, labels.OUTSIDE]


def test_names_decide_where_all_are_known_however_they_are_spelt():
    own = ["hen", "sphynx", "Great_White-Shark"]
    assert labels.fit(ANIMALS, own).tolist() == [1, 3, 0]


def test_numbers_for_names_say_nothing():
    assert labels.fit(ANIMALS, ["0", "1", "2", "3"]).tolist() == [0, 1, 2, 3]
    assert labels.fit(ANIMALS, None).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 class names for 3 classes in the data"):
        labels.fit(ANIMALS, ["0", "1", "2"])


def test_folders_called_by_numbers_are_not_taken_in_the_order_of_texts():
    twelve = Classes(tuple(f"class {number}" for number in range(12)))
    own = sorted(str(number) for number in range(12))  # 0, 1, 10, 11, 2, ...
    assert labels.fit(twelve, own).tolist() == [int(name) for name in own]
    assert labels.fit(ANIMALS, ["0000", "0003"]).tolist() == [0, 3]
    for wrong in (["1", "2", "3", "4"], ["1", "01"]):
        with pytest.raises(ValueError, match="they must be different numbers from 0 to 3"):
            labels.fit(ANIMALS, wrong)


def test_order_is_trusted_only_where_nothing_speaks_against_it():
    own = ["white shark", "hen", "salamander", "sphynx cat"]
    assert labels.fit(ANIMALS, own).tolist() == [0, 1, 2, 3]
    with pytest.raises(
        ValueError,
        match="label 2 is 'hen' in the data and 'newt' in the table, which has 'hen' as number 1",
    ):
        labels.fit(ANIMALS, ["white shark", "salamander", "hen", "sphynx cat"])
    with pytest.raises(ValueError, match="4 class names for 2 classes in the data"):
        labels.fit(ANIMALS, ["white shark", "salamander"])


def test_two_classes_of_one_name_keep_their_order():
    twice = Classes(("sunglasses", "hen", "sunglasses"))
    assert labels.fit(twice, ["sunglasses", "hen", "sunglasses"]).tolist() == [0, 1, 2]


def reader(outside, class_L=(0, 1, 2, labels.OUTSIDE)):
    return labels.Labels("label", np.array(class_L), 3, outside, ValueError)


def batch(rows):
    return {"label": rows}


def test_labels_become_a_table_of_right_classes():
    right_BC = reader(labels.ERROR).of(batch([2, 0]))
    assert right_BC.tolist() == [[False, False, True], [True, False, False]]
    right_BC = reader(labels.LEAVE_OUT).of(batch([[2, 0], [], [3, 1], [3]]))
    assert right_BC.sum(axis=1).tolist() == [2, 0, 1, 0]
    assert reader(labels.ERROR).of(batch([])).shape == (0, 3)


def test_labels_of_no_class_are_refused_or_left_out():
    with pytest.raises(ValueError, match="label=3 is none of the 3 classes; outside=leave_out"):
        reader(labels.ERROR).of(batch([0, 3]))
    assert not reader(labels.LEAVE_OUT).of(batch([3])).any()
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"label={wrong} has no class name; there are 4 names"):
            reader(labels.LEAVE_OUT).of(batch([0, wrong]))


def test_labels_may_be_known_by_picture_alone():
    known = {"a": [2], "b": [], "c": [0, 1]}
    reader = labels.Labels("id", np.arange(3), 3, "leave_out", ValueError, known.__getitem__)
    assert reader.of({"id": ["c", "b", "a"]}).sum(axis=1).tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="no labels are known for the picture 'd'"):
        reader.of({"id": ["d"]})
