import numpy as np
import pytest

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.pairs import own_pairs, same_text_pairs
from clipa_jax.evaluators.retrieval import Retrieval
from tests.evaluators.conftest import make, values_of

HELD_OUT = {"name": "ret", "source": "fake", "split": "heldout"}


def test_right_pairs_join_captions_that_read_the_same():
    pairs = same_text_pairs([["a dog", "shared"], ["Shared ", "a cat"]])
    assert pairs.tolist() == [[0, 0], [0, 1], [1, 1], [0, 2], [1, 2], [1, 3]]


def test_recall_by_hand_with_several_captions_and_duplicates(world):
    data, model = world
    values = values_of(make(Retrieval, model.context(), batch_size=4, **HELD_OUT), model.state)
    flat = [(i, text) for i in range(11) for text in (f"caption {i}", "shared")[: 1 + (i % 3 > 0)]]
    text_ME = np.stack([model.text_ME[model.texts[text]] for _, text in flat])
    scores_NM = model.image_NE @ text_ME.T

    def right(image, m):
        shares = flat[m][1] == "shared" and image % 3 > 0
        return flat[m][0] == image or shares

    for k in (1, 5, 10):
        i2t = [any(right(i, m) for m in np.argsort(-scores_NM[i])[:k]) for i in range(11)]
        t2i = [any(right(i, m) for i in np.argsort(-scores_NM[:, m])[:k]) for m in range(len(flat))]
        assert values[f"i2t_r{k}"] == pytest.approx(np.mean(i2t))
        assert values[f"t2i_r{k}"] == pytest.approx(np.mean(t2i))


def test_perfect_towers_find_everything_even_with_one_caption_for_all(world):
    data, model = world
    for i in range(11):
        model.text_ME[model.texts[f"caption {i}"]] = model.image_NE[i]
    evaluator = make(Retrieval, model.context(), captions=(0,), ks=(1,), **HELD_OUT)
    assert values_of(evaluator, model.state) == {"i2t_r1": 1.0, "t2i_r1": 1.0}
    for row in data.rows:
        row["captions"] = np.asarray([b"shared"], object)
    assert values_of(evaluator, model.state) == {"i2t_r1": 1.0, "t2i_r1": 1.0}


def test_picture_without_the_chosen_caption_is_an_error(world):
    _, model = world
    evaluator = make(Retrieval, model.context(), captions=(1,), **HELD_OUT)
    with pytest.raises(DataError, match="picture 'id/0' with 1 captions has none at captions="):
        values_of(evaluator, model.state)


def test_bad_options_stop_before_the_run(world):
    _, model = world
    with pytest.raises(DataError, match="positions from 0"):
        make(Retrieval, model.context(), captions=(-1,), **HELD_OUT)
    with pytest.raises(DataError, match="numbers from 1"):
        make(Retrieval, model.context(), ks=(0,), **HELD_OUT)


def test_gallery_joins_captions_that_read_the_same(world):
    data, model = world
    found = make(Retrieval, model.context(), **HELD_OUT).gallery(model.state)
    assert found.captions[:3] == ("caption 0", "caption 1", "shared")
    assert len(found.captions) == 12  # one of each picture, and the one that many share
    assert [m for n, m in found.pairs_P2.tolist() if n == 1] == [1, 2]
    rows = [model.texts[text] for text in found.captions]
    np.testing.assert_allclose(found.caption_ME, model.text_ME[rows], rtol=1e-6)


def test_own_captions_alone_may_be_right():
    assert own_pairs([["a dog", "shared"], [], ["shared"]]).tolist() == [[0, 0], [0, 1], [2, 2]]


def test_recall_with_own_captions_counts_a_twin_as_a_miss(world):
    data, model = world
    for row in data.rows:
        row["captions"] = np.asarray([b"shared"], object)
    evaluator = make(Retrieval, model.context(), right="own", ks=(1, 10), **HELD_OUT)
    values = values_of(evaluator, model.state)
    # All captions score the same, so the first is ahead for every picture.
    assert values["i2t_r1"] == pytest.approx(1 / 11) and values["i2t_r10"] == pytest.approx(10 / 11)
    assert values["t2i_r1"] == pytest.approx(1 / 11)


def test_captions_that_are_missing_are_an_error(world):
    data, model = world
    evaluator = make(Retrieval, model.context(), least=2, **HELD_OUT)
    with pytest.raises(DataError, match="picture 'id/0' has 1 captions, at least 2 are needed"):
        values_of(evaluator, model.state)
    data.rows[3]["captions"] = np.asarray([b" "], object)
    with pytest.raises(DataError, match="picture 'id/3' has 0 captions, at least 1 are needed"):
        values_of(make(Retrieval, model.context(), **HELD_OUT), model.state)
    open_ = data.listed

    def without(source, split, features):
        found = open_(source, split, features)
        found.has_captions = False
        return found

    data.listed = without
    with pytest.raises(DataError, match="evaluator ret on fake.*the data has no captions"):
        make(Retrieval, model.context(), **HELD_OUT)


def test_options_that_are_none_stop_before_the_run(world):
    _, model = world
    with pytest.raises(ConfigError, match="unknown right 'mine'; legal: own, same_text"):
        make(Retrieval, model.context(), right="mine", **HELD_OUT)
    with pytest.raises(ConfigError, match="evaluator ret: split= is needed"):
        make(Retrieval, model.context(), name="ret", source="fake")
    with pytest.raises(ConfigError, match="'cifar10' is for classification, not for retrieval"):
        make(Retrieval, model.context(), name="ret", dataset="cifar10")
