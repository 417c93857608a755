"""Nouns, adjectives, verbs and the rest: a part-of-speech tagger that runs inside tf.data.

A word's class is the likeliest under a small log-linear model: how often the word is
each class (its ending speaks for words that are not listed), plus weights for what kind
of words stand left and right of it. The numbers are in `assets/lexicon.npz`; where they
come from, their licences and how far the tagger agrees with others is told in
`assets/README.md`. Everything works on piece ids, for whatever vocabulary: the listed
words are split once when the tagger is built, and found again by a hash of their ids.
"""

import numpy as np
import tensorflow as tf

from clipa_jax.preprocess.vocab import ASSETS, Vocabulary

NOUN, ADJECTIVE, VERB, OTHER = range(4)
_LONGEST_SUFFIX = 4


def word_index(vocabulary: Vocabulary, ids_P: tf.Tensor) -> tf.Tensor:
    """(P,) int32: the number of the word that each piece belongs to, from 0 up."""
    if vocabulary.ends_word is not None:
        ends_P = tf.gather(tf.constant(vocabulary.ends_word, tf.int32), ids_P)
        return tf.cumsum(ends_P, exclusive=True)
    starts_P = tf.gather(tf.constant(vocabulary.starts_word, tf.int32), ids_P)
    return tf.cumsum(starts_P) - starts_P[:1]


class WordTable:
    """Finds W listed words, lower-cased, by the ids of their pieces; those that the vocabulary
    cannot spell are left out."""

    def __init__(self, vocabulary: Vocabulary, words: list[str]):
        # A word's key is the sum of random numbers, one for each piece at its position.
        rng = np.random.default_rng(0)
        self._mix_V = rng.integers(-(2**63), 2**63, vocabulary.size, np.int64)
        ragged = vocabulary.split(tf.constant(words))
        ids, starts = ragged.values.numpy(), ragged.row_splits.numpy()[:-1]
        position = np.arange(len(ids)) - np.repeat(starts, ragged.row_lengths().numpy())
        keys_W = np.add.reduceat(self._mix_V[ids] * (2 * position + 1), starts)
        spelt_W = ~np.logical_or.reduceat(ids == vocabulary.unk_id, starts)
        (rows,) = np.nonzero(spelt_W)
        self._keys, first = np.unique(keys_W[rows], return_index=True)
        self._rows = rows[first].astype(np.int32)

    def find(self, ids_P: tf.Tensor, words_P: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Looks the words of a caption up, from its pieces and the word of each, int32 (P,): int32
        (W,) positions among the listed words, and bool (W,), whether they are listed."""
        place_P = tf.range(tf.size(ids_P))
        position_P = place_P - tf.gather(tf.math.segment_min(place_P, words_P), words_P)
        mixed_P = tf.gather(self._mix_V, ids_P) * tf.cast(2 * position_P + 1, tf.int64)
        keys_W = tf.math.segment_sum(mixed_P, words_P)
        place_W = tf.searchsorted(self._keys, keys_W)
        place_W = tf.minimum(place_W, len(self._keys) - 1)
        return tf.gather(self._rows, place_W), tf.gather(self._keys, place_W) == keys_W


class Tagger:
    """The class of each word of a caption."""

    def __init__(self, vocabulary: Vocabulary):
        with (ASSETS / "lexicon.npz").open("rb") as file, np.load(file) as data:
            words = data["words"].tobytes().decode().split("\n")
            self._prior_R4 = data["log_probabilities"].astype(np.int32)
            self._group_R = data["group"].astype(np.int32)
            self._kind_R = data["kind"].astype(np.int32)
            context = data["context"].astype(np.int32)  # (groups, left or right, kinds, class)
        self._kinds = context.shape[2]
        self._left = context[:, 0].reshape(-1, 4)
        self._right = context[:, 1].reshape(-1, 4)
        self._vocabulary = vocabulary
        # Rows of whole words come first, those of endings ("-ing") after them.
        listed = next(i for i, word in enumerate(words) if word.startswith("-"))
        self._table = WordTable(vocabulary, words[:listed])
        endings = {word[1:]: row for row, word in enumerate(words[listed:], listed)}
        self._by_ending_V = np.array([_ending(s, endings) for s in vocabulary.surfaces], np.int32)

    def __call__(self, ids_P: tf.Tensor) -> tf.Tensor:
        """(P,) int32 pieces -> (P,) int32: the class of the word that each belongs to."""
        words_P = word_index(self._vocabulary, ids_P)
        row_W, listed_W = self._table.find(ids_P, words_P)
        last_W = tf.math.segment_max(tf.range(tf.size(ids_P)), words_P)
        guess_W = tf.gather(self._by_ending_V, tf.gather(ids_P, last_W))
        row_W = tf.where(listed_W, row_W, guess_W)
        own_W = tf.gather(self._group_R, row_W) * self._kinds
        kind_W = tf.pad(tf.gather(self._kind_R, row_W), [[1, 1]])  # 0: the caption's end
        scores_W4 = (
            tf.gather(self._prior_R4, row_W)
            + tf.gather(self._left, own_W + kind_W[:-2])
            + tf.gather(self._right, own_W + kind_W[2:])
        )
        return tf.gather(tf.argmax(scores_W4, 1, tf.int32), words_P)


def _ending(surface: str, endings: dict[str, int]) -> int:
    """The row that speaks for an unlisted word whose last piece is `surface`."""
    if not surface.isalpha():
        return endings["."]  # signs, numbers and special pieces
    for length in range(min(_LONGEST_SUFFIX, len(surface)), -1, -1):
        row = endings.get(surface[len(surface) - length :])
        if row is not None:
            return row
    raise AssertionError("the empty ending is always listed")
