"""Captions to token ids: the tokenizer and the preprocessing ops that use it.

A row of length L is the vocabulary's first piece (`[CLS]`), at most L-1 pieces of the
caption, and padding on the right; there is no `[SEP]` and no mask, as in the released
code (UCSC-VLAA/CLIPA, clipa_jax/transforms/bert_ops.py). Only CLIP's own vocabulary has a
piece for the end, which follows at most L-2 pieces.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.config.batch import CAPTION_HASH, HASH_OP, TOKENS
from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.preprocess import cleaning, reduce
from clipa_jax.preprocess.registry import Function, Sample, op
from clipa_jax.preprocess.vocab import Vocabulary, read_vocabulary

Tokenize = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A vocabulary and the layout of a row.

    # differs from CLIPA: U+2028 and U+2029 separate words, as in the original BERT code;
    # tensorflow_text.BertTokenizer, which CLIPA used, made them `[UNK]`.
    """

    vocabulary: Vocabulary

    def row(self, length: int, reduction: str = "truncate"):
        """A function for tf.data: a string () and a seed int64 (2,) to ids int32 (length,)."""
        if length < 1:
            raise ConfigError(f"text length {length}: a row needs at least its first token")
        vocabulary = self.vocabulary
        end_X = tf.constant([] if vocabulary.end_id is None else [vocabulary.end_id], tf.int32)
        budget = length - 1 - end_X.shape[0]
        if budget < 0:
            raise ConfigError(f"text length {length}: a row needs its first and its last token")
        shorten = reduce.build(reduction, vocabulary, budget)
        cls_1 = tf.constant([vocabulary.cls_id], tf.int32)

        def encode(text: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            ids_P = vocabulary.split(text[None]).values
            ids_K = tf.concat([cls_1, shorten(ids_P, seed), end_X], 0)
            padding = [[0, length - tf.size(ids_K)]]
            ids_L = tf.pad(ids_K, padding, constant_values=vocabulary.pad_id)
            return tf.ensure_shape(ids_L, (length,))

        return encode

    def encode(
        self,
        texts: Sequence[str] | np.ndarray,
        length: int,
        reduction: str = "truncate",
        seed: int = 0,
    ) -> np.ndarray:
        """Token ids int32 (N, length) of N texts, for callers outside tf.data; text i draws from
        (seed, i) if the reduction is random."""
        texts = tf.constant(np.asarray(texts, dtype=object).reshape(-1), tf.string)
        return _rows(self, length, reduction)(texts, seed).numpy()


@functools.cache
def _rows(tokenizer: Tokenizer, length: int, reduction: str):
    """Traced once for every way of calling `Tokenizer.encode`: tracing takes a while."""
    encode = tokenizer.row(length, reduction)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int64)])
    def rows(texts, seed):
        indices = tf.range(tf.size(texts, tf.int64))
        return tf.map_fn(
            lambda text_index: encode(text_index[0], tf.stack([seed, text_index[1]])),
            (texts, indices),
            fn_output_signature=tf.TensorSpec((length,), tf.int32),
        )

    return rows


@functools.cache
def load_tokenizer(vocab: str) -> Tokenizer:
    """The tokenizer of a vocabulary (see `read_vocabulary`), made once per process."""
    # Built eagerly even when the first caller is tracing: the tables outlive the graph.
    with tf.init_scope():
        return Tokenizer(read_vocabulary(vocab))


@op("choose_caption", entry="text")
def choose_caption(index: int | None = None) -> Function:
    """sample["captions"] (n,) -> sample["caption"] (), the one of that index.

    None draws one by the sample's seed, and gives the empty string when there is none.
    """
    if index is not None:
        return lambda sample: {**sample, "caption": sample["captions"][index]}

    def draw(sample: Sample, *, seed: tf.Tensor) -> Sample:
        captions_n = tf.concat([sample["captions"], [""]], 0)
        count = tf.maximum(tf.size(captions_n) - 1, 1)
        return {
            **sample,
            "caption": captions_n[tf.random.stateless_uniform([], seed, 0, count, tf.int32)],
        }

    return draw


@op(HASH_OP, entry="text")
def hash_caption(of: str = "caption") -> Function:
    """sample["caption_hash"] () int32, the same for captions that read the same.

    With it the loss counts the captions that occur more than once in a batch, and can leave
    them out as negatives (`loss.duplicates`). `of` is "caption", whose case and spacing do not
    matter; or "tokens", what is left of it for the text tower, where more is alike the shorter the
    rows are.
    """
    texts = {
        "caption": lambda sample: _plain(sample["caption"]),
        "tokens": lambda sample: tf.strings.reduce_join(
            tf.strings.as_string(sample[TOKENS]), separator=" "
        ),
    }
    if of not in texts:
        raise ConfigError(unknown("argument of hash_caption:", str(of), texts))

    def hashed(sample: Sample) -> Sample:
        # The buckets are those of FarmHash, which TensorFlow promises never to change.
        number = tf.strings.to_hash_bucket_fast(texts[of](sample), 2**32) - 2**31
        return {**sample, CAPTION_HASH: tf.cast(number, tf.int32)}

    return hashed


def _plain(text: tf.Tensor) -> tf.Tensor:
    """Lower case, one space between words."""
    lower = tf.strings.lower(text, encoding="utf-8")
    return tf.strings.strip(tf.strings.regex_replace(lower, r"\s+", " "))


@op("tokenize", entry="text")
def tokenize(length: int, vocab: str, reduction: str = "truncate") -> Function:
    """sample["caption"] () -> sample["tokens"] int32 (length,), its first token included.

    `vocab` as for `read_vocabulary`; `reduction` is a name from `reduce.REDUCTIONS`.
    """
    encode = load_tokenizer(vocab).row(length, reduction)

    def with_seed(sample: Sample, *, seed: tf.Tensor) -> Sample:
        return {**sample, TOKENS: encode(sample["caption"], seed)}

    def without_seed(sample: Sample) -> Sample:
        return {**sample, TOKENS: encode(sample["caption"], tf.zeros([2], tf.int64))}

    return with_seed if reduce.is_random(reduction) else without_seed


def make_tokenize(config: Any) -> Tokenize:
    """Texts -> int32 (B, L) by the vocabulary, cleaning and length of an `input` section."""
    if not config.vocab:
        return _no_tokenizer
    tokenizer, length = load_tokenizer(config.vocab), config.text_len
    clean = cleaning.cleaner(config.clean) or (lambda text: text)
    return lambda texts: tokenizer.encode([clean(text) for text in texts], length)


def _no_tokenizer(texts: Sequence[str]) -> np.ndarray:
    raise DataError(
        f"got {len(texts)} strings, but the tokenizer of this open_clip model is not supported; "
        "pass token ids, int32 (B, L), from open_clip.get_tokenizer"
    )
