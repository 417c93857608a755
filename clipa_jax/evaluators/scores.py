"""Metric arithmetic as pure numpy functions.

The rank of an answer is the number of candidates ahead of it: 0 is the best. Of equal
scores the lower index is ahead, as in `jax.lax.top_k`, so a constant model scores at chance.
NaN is below every number, and a right answer with a score of NaN ranks last: a diverged model is
never counted as right.

N queries, M candidates, C classes, E embedding, B rows of a batch.
"""

import numpy as np

# Scores held at once by the chunked functions: 64 MiB of float32.
MAX_SCORES = 1 << 24


def ranks(scores_NC: np.ndarray, right_N: np.ndarray) -> np.ndarray:
    """Rank of each row's right candidate, int64 (N,); higher scores are better."""
    num_rows, num_candidates = scores_NC.shape
    if right_N.shape != (num_rows,) or np.any((right_N < 0) | (right_N >= num_candidates)):
        raise ValueError(
            f"right answers {right_N.shape} must be {num_rows} indices below {num_candidates}"
        )
    right_N1 = right_N[:, None]
    own_N1 = np.take_along_axis(scores_NC, right_N1, axis=1)
    # Comparisons with NaN are false, so a candidate that is NaN is ahead of nothing.
    ahead_NC = scores_NC > own_N1
    ahead_NC |= (scores_NC == own_N1) & (np.arange(num_candidates) < right_N1)
    return np.where(np.isnan(own_N1[:, 0]), num_candidates, ahead_NC.sum(axis=1))


def best_ranks(query_NE: np.ndarray, candidate_ME: np.ndarray, pairs_P2: np.ndarray) -> np.ndarray:
    """Rank of each query's best-placed right candidate among all candidates, int64 (N,).

    Scores are dot products, and exist for one chunk of queries at a time. Rows of `pairs_P2` are
    (query, right candidate), any number of either; a query without one raises `ValueError`.
    """
    num_queries, num_candidates = len(query_NE), len(candidate_ME)
    pairs_P2 = pairs_P2[np.argsort(pairs_P2[:, 0], kind="stable")]
    counts_N = np.bincount(pairs_P2[:, 0], minlength=num_queries)
    if np.any(counts_N == 0):
        raise ValueError(f"query {int(np.argmin(counts_N))} has no right candidate")
    ranks_N = np.empty(num_queries, np.int64)
    size = max(MAX_SCORES // max(num_candidates, 1), 1)
    for start in range(0, num_queries, size):
        rows = slice(start, min(start + size, num_queries))
        first, last = np.searchsorted(pairs_P2[:, 0], [rows.start, rows.stop])
        query_P, right_P = pairs_P2[first:last].T
        right_BM = np.zeros((rows.stop - rows.start, num_candidates), bool)
        right_BM[query_P - rows.start, right_P] = True
        ranks_N[rows] = ranks_of_best(query_NE[rows] @ candidate_ME.T, right_BM)
    return ranks_N


def ranks_of_best(scores_NC: np.ndarray, right_NC: np.ndarray) -> np.ndarray:
    """Rank of each row's best-placed right candidate, int64 (N,); C for a row without one."""
    own_NC = np.where(right_NC, scores_NC, -np.inf)
    own_NC[np.isnan(own_NC)] = -np.inf
    # argmax takes the first of equal scores, which is the one that ranks better.
    best_N = np.argmax(own_NC, axis=1)
    failed_N = np.isneginf(np.take_along_axis(own_NC, best_N[:, None], axis=1)[:, 0])
    return np.where(failed_N, scores_NC.shape[1], ranks(scores_NC, best_N))


def softmax(logits_NC: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, float32."""
    exp_NC = np.exp(logits_NC - logits_NC.max(axis=-1, keepdims=True))
    return exp_NC / exp_NC.sum(axis=-1, keepdims=True)


def contrastive_losses(
    image_NE: np.ndarray, text_NE: np.ndarray, scale: float, batch_size: int
) -> np.ndarray:
    """CLIP's loss of each pair in batches of `batch_size`, mean of both directions, in nats, (N,).

    The loss depends on the number of candidates, so a short last batch would lower the mean.
    Instead the last batch repeats pairs of the batch before as candidates; each pair is a query
    exactly once. Fewer pairs than `batch_size` form one batch. `scale` is the inverse temperature.
    """
    num_pairs = len(image_NE)
    check_some(image_NE)
    parts = []
    for start in range(0, num_pairs, batch_size):
        stop = min(start + batch_size, num_pairs)
        first = max(stop - batch_size, 0)
        logits_BB = scale * (image_NE[first:stop] @ text_NE[first:stop].T).astype(np.float64)
        both_B = _log_sum_exp(logits_BB, axis=1) + _log_sum_exp(logits_BB, axis=0)
        loss_B = both_B / 2 - np.diagonal(logits_BB)
        parts.append(loss_B[start - first :])
    return np.concatenate(parts)


def contrastive_loss(loss_N: np.ndarray, batch_size: int) -> float:
    """The mean of `contrastive_losses`, added up batch by batch, as in recorded results."""
    check_some(loss_N)
    starts = range(0, len(loss_N), batch_size)
    return sum(float(loss_N[s : s + batch_size].sum()) for s in starts) / len(loss_N)


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    peak = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - peak).sum(axis=axis)) + peak.squeeze(axis)


def check_some(rows: np.ndarray) -> None:
    """Raises `ValueError` for no rows."""
    if len(rows) == 0:
        raise ValueError("no samples: the mean over nothing is undefined")
