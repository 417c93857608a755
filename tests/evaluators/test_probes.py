import numpy as np
import pytest

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators import linear, probes
from clipa_jax.evaluators.probes import Examples, LinearProbe
from tests.evaluators.conftest import make, make_rows, values_of

DATA = {"name": "probe", "source": "fake", "split": "heldout", "label": "concept"}
DATA |= {"train_split": "train"}


def one_class_features(model, classes=7):
    """Pictures of a class lie near each other."""
    centre_CE = np.eye(8, 5)[:classes] + np.eye(8, 5)[::-1][:classes] * 0.3
    label_N = np.arange(len(model.image_NE)) % classes
    model.image_NE = (centre_CE[label_N] + 0.01 * model.image_NE).astype(np.float32)


def test_full_probe_learns_what_can_be_learned(world):
    data, model = world
    one_class_features(model, 5)
    data.names["concept"] = data.names["concept"][:5]
    data.rows = make_rows(11, 5)
    for fit in linear.FITS:
        values = values_of(make(LinearProbe, model.context(), fit=fit, l2=0.1, **DATA), model.state)
        assert values == pytest.approx({"top1": 1.0, "mean_recall": 1.0})


def test_the_penalty_with_the_best_accuracy_on_held_out_examples_is_chosen():
    rng = np.random.default_rng(0)
    label_N = np.arange(100) % 2
    x_ND = np.where(label_N[:, None], 1.0, -1.0) + rng.normal(size=(100, 5))
    train = Examples(x_ND.astype(np.float32), label_N, [str(n) for n in range(100)])
    sizes = []

    def fit(x_ND, label_N, num_classes, l2):
        sizes.append(len(x_ND))
        return linear.ridge(x_ND, label_N if l2 < 5 else 1 - label_N, num_classes, l2)

    accuracies = probes.held_out_accuracies(fit, train, (9.0, 1.0), 2, seed=0)
    assert sizes == [80, 80]
    assert accuracies[1] > 0.8 and accuracies[0] == pytest.approx(1 - accuracies[1])


def test_few_shot_by_hand(world):
    _, model = world
    env = model.context()
    probe = make(LinearProbe, env, shots=(1, 2), repeats=2, batch_size=4, **DATA)
    values = values_of(probe, model.state)
    label_N = np.arange(11) % 7
    keys = np.concatenate(
        [rng.random((2, n)) for rng in [np.random.default_rng(0)] for n in (8, 3)], axis=1
    )
    for shots in (1, 2):
        right = []
        for key_N in keys:
            mine = [
                n
                for c in range(7)
                for n in sorted(np.flatnonzero(label_N == c), key=lambda n: key_N[n])[:shots]
            ]
            fitted = linear.ridge(model.image_NE[mine], label_N[mine], 7, 1024.0)
            right.append(np.mean(fitted.scores(model.image_NE).argmax(1) == label_N))
        assert values[f"top1_{shots}shot"] == pytest.approx(np.mean(right))


def test_draws_do_not_depend_on_how_often_memory_is_cleared(monkeypatch):
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 3, 400)
    parts = [
        Examples(
            np.arange(s, s + 8, dtype=np.float32)[:, None],
            label_N[s : s + 8],
            [str(n) for n in range(s, s + 8)],
        )
        for s in range(0, 400, 8)
    ]
    whole, place_RN = probes.draw(parts, 5, 2, seed=3)
    chosen = [sorted(whole.ids[n] for n in np.flatnonzero(row < 5)) for row in place_RN]
    monkeypatch.setattr(probes, "MIN_HELD", 10)
    again, place_RN = probes.draw(parts, 5, 2, seed=3)
    assert [sorted(again.ids[n] for n in np.flatnonzero(row < 5)) for row in place_RN] == chosen
    assert len(again.ids) <= 2 * 3 * 5 and all(len(row) == 15 for row in chosen)
    assert chosen[0] != chosen[1]


def test_classes_of_both_splits_must_be_the_same(world):
    data, model = world
    open_ = data.listed

    def other(source, split, features):
        found = open_(source, "heldout")
        if split == "train":
            found.class_names = lambda label: ("class 0",)
        return found

    data.listed = other
    with pytest.raises(DataError, match="7 classes, but 1 in fake, split train, or other names"):
        make(LinearProbe, model.context(), **DATA)


def test_bad_options_stop_before_the_run(world):
    _, model = world
    env = model.context()
    for change, message in (
        ({"train_split": None}, "train_split= is needed"),
        ({"fit": "rigde"}, "unknown fit 'rigde'; nearest: ridge"),
        ({"l2": 0.0}, "must be above 0"),
        ({"shots": (0,)}, "must be at least 1"),
        ({"shots": (5,), "l2": (1.0, 2.0)}, "few examples leave none to choose by"),
        ({"shots": (5,), "fit": "logistic"}, "few examples leave none to choose by"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(LinearProbe, env, **DATA | change)
