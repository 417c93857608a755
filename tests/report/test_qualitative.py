"""The look at held-out pictures, where every answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from clipa_jax.evaluators import scores
from clipa_jax.evaluators.dataset import Gallery
from clipa_jax.report import qualitative


class Evaluator:
    """One whose gallery is given."""

    def __init__(self, image_NE, caption_ME, pairs, scale=10.0, side=4, skip=0):
        def pictures(row_N):
            return np.broadcast_to(
                row_N.astype(np.uint8)[:, None, None, None], (len(row_N), side, side, 3)
            )

        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image_NE, caption_ME)]
        names = tuple(f"caption {m}" for m in range(len(caption_ME)))
        data = SimpleNamespace(source="fake", split="heldout", pictures=pictures)
        row_N = np.arange(len(image_NE)) + skip
        self.made = Gallery(data, row_N, row_N, names, *unit, np.asarray(pairs), scale)

    def gallery(self, state):
        return self.made


def some(num_pictures=40, num_captions=30, seed=0, **options):
    rng = np.random.default_rng(seed)
    image_NE = rng.normal(size=(num_pictures, 6)).astype(np.float32)
    caption_ME = rng.normal(size=(num_captions, 6)).astype(np.float32)
    pairs = [(n, n % num_captions) for n in range(num_pictures)]
    return Evaluator(image_NE, caption_ME, pairs, **options)


def test_pictures_stand_with_their_captions():
    evaluator = some()
    held = qualitative.make("zs", evaluator, None)
    made = evaluator.made
    probability_NM = scores.softmax(10 * made.image_NE @ made.caption_ME.T)
    assert len(held.shown) == qualitative.PICTURES and len({one["row"] for one in held.shown}) == 24
    for one in held.shown:
        assert held.image_NSSC[one["picture"], 0, 0, 0] == one["row"]
        order = np.argsort(-probability_NM[one["row"]])
        assert [g["caption"] for g in one["top"]] == [
            f"caption {m}" for m in order[: qualitative.TOP]
        ]
        right = one["row"] % 30
        assert one["right"] == f"caption {right}"
        assert one["place"] == int(np.flatnonzero(order == right)[0]) + 1
        assert one["share"] == pytest.approx(probability_NM[one["row"], right], rel=1e-4)
        assert [g["right"] for g in one["top"]] == [m == right for m in order[: qualitative.TOP]]


def test_captions_stand_with_their_pictures():
    evaluator = some()
    held = qualitative.make("zs", evaluator, None)
    made = evaluator.made
    assert len(held.sought) == qualitative.CAPTIONS
    for one in held.sought:
        caption = int(one["caption"].split()[1])
        cosine_N = made.image_NE @ made.caption_ME[caption]
        order = np.argsort(-cosine_N)
        rows = [held.image_NSSC[hit["picture"], 0, 0, 0] for hit in one["top"]]
        assert rows == order[: qualitative.HITS].tolist()
        right = {n for n in range(40) if n % 30 == caption}
        assert one["place"] == min(order.tolist().index(n) for n in right) + 1
        assert [hit["right"] for hit in one["top"]] == [n in right for n in rows]
        assert one["top"][0]["cosine"] == pytest.approx(cosine_N.max(), rel=1e-5)


def test_the_same_pictures_for_every_model_on_the_same_data():
    one, other = (qualitative.make("zs", some(seed=seed), None) for seed in (1, 2))
    assert one.fingerprint == other.fingerprint
    assert [shown["row"] for shown in one.shown] == [shown["row"] for shown in other.shown]
    assert [s["caption"] for s in one.sought] == [s["caption"] for s in other.sought]
    assert one.fingerprint != qualitative.make("zs", some(num_pictures=41), None).fingerprint


def test_twins_are_the_most_confused():
    """Captions 0 and 1 are one vector; pictures of 2 look like 3, but not the other way round."""
    axes = np.eye(6, dtype=np.float32)
    caption_ME = np.stack([axes[0], axes[0], axes[1], axes[2]])
    image_NE = np.stack([axes[0], axes[0], axes[2] + 0.2 * axes[1], axes[2]])
    evaluator = Evaluator(image_NE, caption_ME, [(n, n) for n in range(4)], scale=20.0)
    held = qualitative.make("zs", evaluator, None)
    first, second = held.confused[:2]
    assert {first["first"], first["second"]} == {"caption 0", "caption 1"}
    assert first["first_as_second"] == pytest.approx(0.5, abs=1e-3)
    assert first["second_as_first"] == pytest.approx(0.5, abs=1e-3)
    assert (second["first"], second["second"]) == ("caption 2", "caption 3")
    assert second["first_as_second"] > 0.99 and second["second_as_first"] == 0
    rows = [
        held.image_NSSC[i, 0, 0, 0] for i in (second["first_picture"], second["second_picture"])
    ]
    assert rows == [2, 3]


def test_confusion_is_a_mean_over_pictures_and_needs_none_of_the_other():
    """Of two pictures of caption 0 one goes to caption 1, of which there is no picture."""
    axes = np.eye(3, dtype=np.float32)
    evaluator = Evaluator(axes[[0, 1, 2]], axes[[0, 1, 2]], [(0, 0), (1, 0), (2, 2)], scale=50.0)
    [pair] = qualitative.make("zs", evaluator, None).confused
    assert (pair["first"], pair["second"]) == ("caption 0", "caption 1")
    assert pair["first_as_second"] == pytest.approx(0.5, abs=1e-3)
    assert pair["second_picture"] is None


def test_pictures_that_have_no_caption_are_passed_over():
    """The gallery starts at row 7 of the split."""
    held, later = qualitative.make("zs", some(), None), qualitative.make("zs", some(skip=7), None)
    assert [one["row"] for one in later.shown] == [one["row"] + 7 for one in held.shown]
    assert later.image_NSSC[0, 0, 0, 0] == held.image_NSSC[0, 0, 0, 0] + 7


def test_several_right_captions_are_no_confusion():
    axes = np.eye(3, dtype=np.float32)
    pairs = [(0, 0), (0, 1), (1, 2)]
    held = qualitative.make("r", Evaluator(axes[[0, 1]], axes[[0, 0, 1]], pairs, scale=50.0), None)
    assert held.confused == []
    assert all(one["place"] == 1 for one in held.shown)
    assert [g["right"] for g in held.shown[0]["top"]] == [True, True, False]


def test_large_pictures_are_reduced_and_small_ones_stay():
    assert qualitative.make("zs", some(side=200), None).image_NSSC.shape[1:] == (96, 96, 3)
    assert qualitative.make("zs", some(side=64), None).image_NSSC.shape[1:] == (64, 64, 3)


def test_chunks_change_nothing(monkeypatch):
    whole = qualitative.make("zs", some(), None)
    monkeypatch.setattr(scores, "MAX_SCORES", 70)
    parts = qualitative.make("zs", some(), None)
    assert parts.confused == whole.confused
    assert [one["place"] for one in parts.shown] == [one["place"] for one in whole.shown]
