import numpy as np
import pytest

from clipa_jax.evaluators import bootstrap
from clipa_jax.evaluators.outcome import Outcome


def ids(count):
    return [f"id/{n}" for n in range(count)]


def hits(count, share=0.7, seed=0):
    return np.random.default_rng(seed).random(count) < share


def class_mean(ids, value_N, class_N):
    return Outcome.of("class_mean", ids, value_N=value_N, class_N=class_N)


def width(bounds):
    return bounds[1] - bounds[0]


def test_an_accuracy_has_the_interval_of_the_binomial_distribution():
    hit_N = hits(5_000)
    low, high = bootstrap.interval(Outcome.mean(ids(5_000), hit_N))
    p = hit_N.mean()
    deviation = np.sqrt(p * (1 - p) / 5_000)
    assert (low, high) == pytest.approx((p - 1.96 * deviation, p + 1.96 * deviation), abs=0.0015)


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        low, high = bootstrap.interval(Outcome.mean(ids(200), rng.random(200) < 0.7))
        held += low <= 0.7 <= high
    assert 0.91 < held / 300 < 0.98


def test_counting_kinds_and_drawing_samples_are_one_distribution(monkeypatch):
    label_N = np.random.default_rng(2).integers(0, 5, 800)
    for one in (
        Outcome.mean(ids(800), hits(800)),
        class_mean(ids(800), hits(800), label_N),
    ):
        counted = bootstrap.replicates(one, draws=4_000)
        with monkeypatch.context() as patch:
            patch.setattr(bootstrap, "UNITS_PER_KIND", 1_000)
            drawn = bootstrap.replicates(one, draws=4_000)
            patch.setattr(bootstrap, "WEIGHTED_MEANS", ())
            computed = bootstrap.replicates(one, draws=1_000)
        assert not np.array_equal(counted, drawn)
        for other in (drawn, computed):
            assert other.mean() == pytest.approx(counted.mean(), abs=0.002)
            assert other.std() == pytest.approx(counted.std(), rel=0.08)


def test_a_class_of_one_sample_is_as_uncertain_as_any(monkeypatch):
    """Where each class has one, the mean over classes is the mean over samples."""
    one = class_mean(ids(1_000), hits(1_000), np.arange(1_000))
    mean = Outcome.mean(ids(1_000), hits(1_000))
    assert width(bootstrap.interval(one)) == pytest.approx(width(bootstrap.interval(mean)), rel=0.1)
    monkeypatch.setattr(bootstrap, "WEIGHTED_MEANS", ())
    assert width(bootstrap.interval(one)) < 0.85 * width(bootstrap.interval(mean))


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    class_N = np.repeat([0, 1], [1_900, 100])
    hit_N = np.concatenate([hits(1_900), hits(100)])
    found = bootstrap.replicates(class_mean(ids(2_000), hit_N, class_N))
    p = [hit_N[class_N == c].mean() for c in (0, 1)]
    deviation = np.sqrt(p[0] * (1 - p[0]) / 1_900 + p[1] * (1 - p[1]) / 100) / 2
    assert found.mean() == pytest.approx(np.mean(p), abs=0.005)
    assert found.std() == pytest.approx(deviation, rel=0.1)


def test_a_mean_of_numbers_that_all_differ():
    loss_N = np.random.default_rng(3).normal(2.0, 0.5, 3_000)
    low, high = bootstrap.interval(Outcome.mean(ids(3_000), loss_N))
    half = 1.96 * loss_N.std() / np.sqrt(3_000)
    assert (low, high) == pytest.approx((loss_N.mean() - half, loss_N.mean() + half), abs=0.003)


def test_samples_that_are_drawn_together_count_once():
    """Five captions that are all found or all missed say as much as their one picture."""
    hit_N = hits(400)
    pictures = bootstrap.interval(Outcome.mean(ids(400), hit_N))
    captions = Outcome.mean(ids(2_000), np.repeat(hit_N, 5), np.repeat(np.arange(400), 5))
    alone = Outcome.mean(ids(2_000), np.repeat(hit_N, 5))
    assert width(bootstrap.interval(captions)) == pytest.approx(width(pictures), rel=0.1)
    assert width(bootstrap.interval(alone)) < 0.6 * width(pictures)


def test_units_of_uneven_size_one_by_one(monkeypatch):
    unit_N = np.array([3, 1, 1, 3, 3, 0, 2, 2])
    one = Outcome.mean(ids(8), np.array([1, 0, 0, 1, 1, 1, 0, 1]), unit_N)
    fast = bootstrap.replicates(one, draws=6_000)
    monkeypatch.setattr(bootstrap, "WEIGHTED_MEANS", ())
    slow = bootstrap.replicates(one, draws=6_000)
    assert sorted(set(np.round(slow, 9))) == sorted(set(np.round(fast, 9)))
    assert slow.mean() == pytest.approx(fast.mean(), abs=0.01)


def test_the_same_seed_gives_the_same_interval():
    one = class_mean(ids(300), hits(300), np.arange(300) % 150)
    assert bootstrap.interval(one) == bootstrap.interval(one)
    assert bootstrap.interval(one) != bootstrap.interval(one, seed=1)


def test_where_there_is_no_interval():
    assert bootstrap.interval(Outcome.mean(["one"], np.ones(1))) is None
    assert bootstrap.interval(Outcome.mean(ids(3), np.array([1.0, np.nan, 2.0]))) is None
    assert bootstrap.interval(Outcome.mean(ids(50), np.ones(50))) == (1.0, 1.0)


def test_pairs_see_what_two_intervals_cannot():
    hit_N = hits(2_000)
    better_N = hit_N.copy()
    better_N[np.flatnonzero(~hit_N)[:20]] = True  # one point more, nothing lost
    a, b = Outcome.mean(ids(2_000), hit_N), Outcome.mean(ids(2_000), better_N)
    found = bootstrap.difference(a, b)
    assert found.value == pytest.approx(0.01)
    assert 0.004 < found.low < 0.01 < found.high < 0.016
    assert bootstrap.interval(a)[1] > bootstrap.interval(b)[0]  # the two overlap
    turned = bootstrap.difference(b, a)
    assert (turned.value, turned.low) == pytest.approx((-found.value, -found.high), abs=0.001)


def test_pairs_are_made_of_the_samples_that_both_have():
    a = Outcome.mean(["x", "y", "z"], np.array([1, 0, 1]))
    b = Outcome.mean(["z", "w", "y"], np.array([0, 1, 1]))
    found = bootstrap.difference(a, b)
    assert (found.count, found.a, found.b, found.value) == (2, 0.5, 0.5, 0.0)
    assert bootstrap.difference(a, Outcome.mean(["w"], np.ones(1))) is None


def test_pairs_of_class_means_and_of_other_statistics(monkeypatch):
    class_N, a_N, b_N = np.arange(600) % 40, hits(600), hits(600, 0.75, seed=9)
    a, b = (class_mean(ids(600), hit_N, class_N) for hit_N in (a_N, b_N))
    fast = bootstrap.difference(a, b)
    assert fast.value == b.value - a.value
    monkeypatch.setattr(bootstrap, "WEIGHTED_MEANS", ())
    slow = bootstrap.difference(a, b)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), abs=0.01)


def test_what_cannot_be_paired_is_refused():
    a = class_mean(ids(4), np.ones(4), np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="class_mean cannot be compared with mean"):
        bootstrap.difference(a, Outcome.mean(ids(4), np.ones(4)))
    with pytest.raises(ValueError, match="different classes"):
        bootstrap.difference(a, class_mean(ids(4), np.ones(4), np.array([0, 1, 1, 1])))
