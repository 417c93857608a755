"""Text token reduction: which pieces of a caption stay when it is too long.

A reduction is a factory, chosen by name: given a vocabulary and a budget of K pieces
it returns a function from a caption's P pieces (P > K) and a seed to the K pieces
that stay, in the caption's order. `build` wraps it so that captions that fit the budget
are never touched. All of it runs inside tf.data, and the random ones are stateless: the
same seed gives the same pieces. Where words are ranked, the budget still counts pieces:
the last word that gets in may lose its tail.

Sources: arXiv 2305.07017 (CLIPA, section 3.2); arXiv 2412.16148 (CLIPF).
"""

import gzip
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.preprocess.lexicon import Tagger, WordTable, word_index
from clipa_jax.preprocess.vocab import ASSETS, Vocabulary
from clipa_jax.runtime import files

# pieces (P,) int32, seed (2,) int64 -> pieces (K,) int32, for P > K
Reduction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

REDUCTIONS: dict[str, Callable[..., Reduction]] = {}
THRESHOLD = 1e-6  # CLIPF's t: words rarer than this are never held back
# Fingerprint of the only vocabulary that the released code's ranks are for.
_RELEASED_VOCABULARY = "e27086903972a895"


def build(name: str, vocabulary: Vocabulary, budget: int) -> Reduction:
    """The reduction called `name`, to `budget` pieces: a function of a caption's pieces int32 (P,)
    and a seed int64 (2,), which matters if `is_random(name)`.

    `frequency:PATH` and `rarest:PATH` name a table of word counts (see `frequency`). A name that is
    unknown or does not fit the vocabulary raises `ConfigError`.
    """
    name, *path = name.split(":", 1)
    if name not in REDUCTIONS:
        raise ConfigError(unknown("reduction", name, REDUCTIONS))
    if path and name not in ("frequency", "rarest"):
        raise ConfigError(f"reduction {name!r} takes no table of word counts, but got {path[0]!r}")
    shorten = REDUCTIONS[name](vocabulary, budget, *path)

    def reduce(ids_P: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.size(ids_P) > budget, lambda: shorten(ids_P, seed), lambda: ids_P)

    return reduce


def is_random(name: str) -> bool:
    """Whether the reduction draws, and so needs a seed of the sample's own."""
    return name.split(":", 1)[0] in ("random", "block", "frequency")


def _register(factory: Callable[..., Reduction]) -> Callable[..., Reduction]:
    REDUCTIONS[factory.__name__] = factory
    return factory


@_register
def truncate(vocabulary: Vocabulary, budget: int) -> Reduction:
    """The first pieces."""
    del vocabulary
    return lambda ids_P, seed: ids_P[:budget]


@_register
def random(vocabulary: Vocabulary, budget: int) -> Reduction:
    """Pieces drawn without replacement: all sets of `budget` pieces are equally likely."""
    del vocabulary

    # differs from CLIPA: its draw came from the first W pieces of a caption of W words
    # and stayed in shuffled order (transforms/bert_ops.py:297-301).
    def shorten(ids_P, seed):
        draws_P = tf.random.stateless_uniform(tf.shape(ids_P), seed)
        return tf.gather(ids_P, _best(draws_P, budget))

    return shorten


@_register
def block(vocabulary: Vocabulary, budget: int) -> Reduction:
    """A window of neighboring pieces: all P - budget + 1 windows are equally likely."""
    del vocabulary

    # differs from CLIPA: its last window was never drawn (transforms/bert_ops.py:315).
    def shorten(ids_P, seed):
        windows = tf.size(ids_P) - budget + 1
        start = tf.random.stateless_uniform([], seed, 0, windows, tf.int32)
        return ids_P[start : start + budget]

    return shorten


@_register
def syntax(vocabulary: Vocabulary, budget: int) -> Reduction:
    """Nouns, then adjectives, then verbs, then the rest; of a class, the first ones.

    The class is that of the whole word in its caption, see `lexicon.Tagger`.
    """
    tagger = Tagger(vocabulary)
    return lambda ids_P, seed: tf.gather(ids_P, _best(-tagger(ids_P), budget))


@_register
def syntax_released(vocabulary: Vocabulary, budget: int) -> Reduction:
    """The released code's noun_tokenize, for continuing from its weights.

    A word's rank is that of its first piece as an entry of the vocabulary, tagged alone; captions
    of at most `budget` words are truncated; else the `budget` best words are put in order and their
    pieces truncated (transforms/bert_ops.py:215-254). The entries' tags come from the tagger that
    NLTK's is a port of, with its author's weights instead of NLTK's, which CLIPA downloaded, so
    single entries may rank differently. Other vocabularies raise `ConfigError`.
    """
    text = "\n".join(vocabulary.surfaces).encode()
    if hashlib.sha256(text).hexdigest()[:16] != _RELEASED_VOCABULARY:
        raise ConfigError(
            "reduction 'syntax_released' ranks the entries of bert-base-uncased, but the "
            f"vocabulary is {vocabulary.name!r}; use that vocabulary, or reduction 'syntax'"
        )
    digits = gzip.decompress((ASSETS / "released_ranks.txt.gz").read_bytes())
    rank_V = np.frombuffer(digits, np.uint8).astype(np.int32)

    def shorten(ids_P, seed):
        del seed
        words_P = word_index(vocabulary, ids_P)
        first_W = tf.math.segment_min(tf.range(tf.size(ids_P)), words_P)
        # With no more words than the budget this keeps all of them, which truncates.
        count = tf.minimum(budget, tf.size(first_W))
        best_K = _best(-tf.gather(rank_V, tf.gather(ids_P, first_W)), count)
        kept_W = tf.scatter_nd(best_K[:, None], tf.ones_like(best_K), tf.shape(first_W))
        return tf.boolean_mask(ids_P, tf.gather(kept_W, words_P) > 0)[:budget]

    return shorten


@_register
def frequency(vocabulary: Vocabulary, budget: int, table: str = "") -> Reduction:
    """Random words, rare ones preferred: CLIPF's sampling.

    A word of frequency f is held back by p = 1 - sqrt(t / f), at least 0, with t = 1e-6; the words
    with the largest u - p stay, u uniform in [0, 1) for each word. So the rarer a word is, the more
    likely it stays.

    `table` is the path of a file of word counts, a line for each word: word, tab, count
    (`tools/count_words.py` writes it; .gz is read as well). By default counts of the web, see
    assets/README.md.
    """
    held_back = _PerWord(vocabulary, table, lambda f_W: 1 - np.sqrt(THRESHOLD / f_W))

    # differs from CLIPF: words that are not in the table count as rare, not as noise; the
    # budget is filled piece by piece instead of cutting the end of `budget` words.
    def shorten(ids_P, seed):
        words_P, p_W = held_back(ids_P)
        u_W = tf.random.stateless_uniform(tf.shape(p_W), seed)
        return tf.gather(ids_P, _best(tf.gather(u_W - p_W, words_P), budget))

    return shorten


@_register
def rarest(vocabulary: Vocabulary, budget: int, table: str = "") -> Reduction:
    """The rarest words; of equals, the first ones. `table` as in `frequency`."""
    frequencies = _PerWord(vocabulary, table, lambda f_W: f_W)

    def shorten(ids_P, seed):
        del seed
        words_P, f_W = frequencies(ids_P)
        return tf.gather(ids_P, _best(tf.gather(-f_W, words_P), budget))

    return shorten


class _PerWord:
    """A number for each word of a caption, from the word's frequency.

    Words that are not in the table are rarer than all (0); punctuation that is not in it is more
    frequent than all (2, which no draw brings back).
    """

    def __init__(self, vocabulary: Vocabulary, table: str, number: Callable):
        counts = _read_counts(table)
        counts_W = np.array(list(counts.values()), np.float64)
        self._number_W = np.maximum(number(counts_W / counts_W.sum()), 0).astype(np.float32)
        self._table = WordTable(vocabulary, list(counts))
        self._vocabulary = vocabulary
        signs = [not any(map(str.isalnum, surface)) for surface in vocabulary.surfaces]
        self._unlisted_V = 2 * np.array(signs, np.float32)

    def __call__(self, ids_P: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pieces (P,) -> the word of each piece (P,), the number of each word (W,)."""
        words_P = word_index(self._vocabulary, ids_P)
        row_W, listed_W = self._table.find(ids_P, words_P)
        unlisted_W = tf.math.segment_min(tf.gather(self._unlisted_V, ids_P), words_P)
        return words_P, tf.where(listed_W, tf.gather(self._number_W, row_W), unlisted_W)


def _read_counts(table: str) -> dict[str, float]:
    """Word -> count, counts above zero."""
    try:
        default = ASSETS / "frequencies.tsv.gz"
        content = files.read_bytes(table) if table else default.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = content.decode("utf-8").splitlines()
        pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
        counts = {word: float(count) for word, count in pairs}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{table!r} is not a table of word counts ({error}); expected a line for each word: "
            "word, tab, count. tools/count_words.py writes one from captions"
        ) from None
    if not counts or min(counts.values()) <= 0:
        raise DataError(f"table of word counts {table!r} needs words, and counts above zero")
    return counts


def _best(scores_P: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
    """Ascending positions of the `count` largest scores; of equals, the first ones."""
    return tf.sort(tf.math.top_k(scores_P, count, sorted=False).indices)
