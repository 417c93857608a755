import numpy as np
import pytest

from clipa_jax.evaluators import outcome, scores


def test_rank_counts_what_is_ahead():
    scores_NC = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [0.0, 0.1, 0.2]], np.float32)
    assert scores.ranks(scores_NC, np.array([2, 0, 0])).tolist() == [1, 0, 2]


def test_of_equal_scores_the_lower_index_is_ahead():
    scores_NC = np.array([[0.5, 0.5, 0.1, 0.5]] * 4, np.float32)
    assert scores.ranks(scores_NC, np.array([0, 1, 2, 3])).tolist() == [0, 1, 3, 2]


def test_a_model_with_one_score_for_all_stands_at_chance():
    right_N = np.arange(1000) % 10
    assert np.mean(scores.ranks(np.zeros((1000, 10)), right_N) == 0) == pytest.approx(0.1)


def test_nan_is_never_right_and_never_ahead():
    nan = np.nan
    scores_NC = np.array([[nan, nan, nan], [nan, 0.2, 0.1], [0.3, nan, 0.5]], np.float32)
    ranks_N = scores.ranks(scores_NC, np.array([0, 1, 1]))
    assert ranks_N.tolist() == [3, 0, 3]
    z = np.full((4, 2), nan, np.float32)
    pairs = np.stack([np.arange(4)] * 2, axis=1)
    assert scores.best_ranks(z, z, pairs).tolist() == [4, 4, 4, 4]


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match="indices below 3"):
        scores.ranks(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="indices below 3"):
        scores.ranks(np.zeros((2, 3)), np.array([0, -1]))


def test_metrics_agree_with_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores_NC = rng.normal(size=(500, 12)).astype(np.float32)
    label_N = rng.integers(0, 11, 500)  # class 11 is missing
    ranks_N, predicted = scores.ranks(scores_NC, label_N), scores_NC.argmax(axis=1)
    want = sklearn_metrics.top_k_accuracy_score(label_N, scores_NC, k=5, labels=np.arange(12))
    assert outcome.mean(ranks_N < 5) == pytest.approx(want)
    recall = sklearn_metrics.recall_score(
        label_N, predicted, labels=np.unique(label_N), average="macro"
    )
    assert outcome.class_mean(ranks_N < 1, label_N) == pytest.approx(recall)


def brute_force(query_NE, candidate_ME, pairs):
    """Sorts all candidates of each query; the place of the first right one."""
    found = []
    for query, z in enumerate(query_NE):
        order = np.argsort(-(candidate_ME @ z), kind="stable")
        right = {candidate for q, candidate in pairs if q == query}
        found.append(next(place for place, index in enumerate(order) if index in right))
    return found


@pytest.mark.parametrize("max_scores", [1, 100, 1 << 24])
def test_best_ranks_are_those_of_a_full_sort_whatever_the_chunks(monkeypatch, max_scores):
    monkeypatch.setattr(scores, "MAX_SCORES", max_scores)
    rng = np.random.default_rng(1)
    # Small integers: exact products, many ties.
    image = rng.integers(-2, 3, (23, 3)).astype(np.float32)
    text = rng.integers(-2, 3, (57, 3)).astype(np.float32)
    pairs = [(m % 23, m) for m in range(57)] + [(22, 0), (5, 56)]
    pairs_P2 = np.asarray(pairs)[rng.permutation(len(pairs))]
    assert scores.best_ranks(image, text, pairs_P2).tolist() == brute_force(image, text, pairs)
    flipped = [(m, n) for n, m in pairs]
    found = scores.best_ranks(text, image, pairs_P2[:, ::-1])
    assert found.tolist() == brute_force(text, image, flipped)


def test_query_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="query 1 has no right candidate"):
        scores.best_ranks(np.ones((2, 2)), np.ones((2, 2)), np.array([[0, 0]]))


def contrastive_loss(image_NE, text_NE, scale, batch_size):
    loss_N = scores.contrastive_losses(image_NE, text_NE, scale, batch_size)
    assert loss_N.shape == (len(image_NE),)
    return scores.contrastive_loss(loss_N, batch_size)


def test_contrastive_loss_by_hand():
    # Two orthogonal pairs at scale 2: each pair has logits (2, 0).
    z = np.eye(2, dtype=np.float32)
    want = np.log(1 + np.exp(-2.0))
    assert contrastive_loss(z, z, 2.0, 2) == pytest.approx(want, rel=1e-6)


def test_last_batch_counts_each_pair_once_against_a_whole_batch():
    rng = np.random.default_rng(2)
    image, text = rng.normal(size=(2, 5, 4)).astype(np.float32)

    def of_pairs(rows, batch):
        logits = 3.0 * image[batch] @ text[batch].T
        here = [batch.index(row) for row in rows]
        rows_loss = np.log(np.exp(logits).sum(1)) - np.diagonal(logits)
        columns_loss = np.log(np.exp(logits).sum(0)) - np.diagonal(logits)
        return list((rows_loss + columns_loss)[here] / 2)

    want = of_pairs([0, 1, 2], [0, 1, 2]) + of_pairs([3, 4], [2, 3, 4])
    got = contrastive_loss(image, text, 3.0, 3)
    assert got == pytest.approx(np.mean(want), rel=1e-5)


def test_contrastive_loss_of_few_pairs_and_large_logits_is_finite():
    z = np.eye(3, dtype=np.float32)
    assert contrastive_loss(z, z, 1.0, 256) == pytest.approx(np.log(np.e + 2) - 1, rel=1e-6)
    assert contrastive_loss(z, z, 1e4, 256) == pytest.approx(0.0, abs=1e-6)
    swapped = z[[1, 2, 0]]
    assert contrastive_loss(z, swapped, 1e4, 256) == pytest.approx(1e4, rel=1e-6)
