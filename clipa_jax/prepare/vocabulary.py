"""Vocabularies trained on captions.

Both kinds lower-case and begin with the pieces [PAD], [UNK], [CLS], [SEP], [MASK] at 0 to 4, so
that `--config.*.vocab` takes them wherever it takes BERT's.
"""

import io
from pathlib import Path

import numpy as np
import sentencepiece
import tensorflow as tf

from clipa_jax.errors import DataError
from clipa_jax.preprocess.text import load_tokenizer
from clipa_jax.runtime import quiet

with quiet.stderr():
    from tensorflow_text.python.ops import bert_tokenizer
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SUFFIXES = {"wordpiece": ".txt", "sentencepiece": ".model"}  # `load_tokenizer` reads the suffix
_SLACK = 0.05  # share by which the learner of WordPiece may miss the size


def train(samples: list[list[str]], kind: str, size: int, out: Path) -> None:
    """Trains a vocabulary of at most `size` pieces; WordPiece comes within 5 % below it.

    `kind` is a key of `SUFFIXES`, and the file must have its suffix.
    """
    if out.suffix != SUFFIXES[kind]:
        raise DataError(f"--out={out}: expected a name that ends in {SUFFIXES[kind]} for {kind}")
    out.parent.mkdir(parents=True, exist_ok=True)
    captions = [caption for captions in samples for caption in captions]
    out.write_bytes({"wordpiece": _wordpiece, "sentencepiece": _unigram}[kind](captions, size))


def _wordpiece(captions: list[str], size: int) -> bytes:
    """One piece a line, from the learner of tensorflow_text, the most frequent ones first."""
    tokenizer = bert_tokenizer.BasicTokenizer(lower_case=True)
    texts = tf.data.Dataset.from_tensor_slices(captions).batch(1024)
    counts = learner.count_words(texts.map(tokenizer.tokenize).prefetch(tf.data.AUTOTUNE))
    pieces = learner.learn(counts, size, list(SPECIAL), slack_ratio=_SLACK)
    # The learner drops words below 10 occurrences, and may end its search too low or too high.
    for threshold in range(9, 0, -1):
        if len(pieces) >= (1 - _SLACK) * size:
            break
        bounds = {"upper_thresh": threshold, "lower_thresh": threshold}
        pieces = learner.learn(counts, size, list(SPECIAL), **bounds)
    return ("\n".join(pieces[:size]) + "\n").encode()


def _unigram(captions: list[str], size: int) -> bytes:
    """A model of SentencePiece with the special pieces where BERT has them."""
    pad, unk, cls, sep, mask = SPECIAL
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,  # few captions may give fewer pieces
        normalization_rule_name="nmt_nfkc_cf",  # lower case
        character_coverage=1.0,
        pad_id=0,
        pad_piece=pad,
        unk_id=1,
        unk_piece=unk,
        bos_id=2,
        bos_piece=cls,
        eos_id=3,
        eos_piece=sep,
        control_symbols=[mask],
        num_threads=1,  # else two runs could differ
        minloglevel=2,
    )
    return model.getvalue()


def coverage(samples: list[list[str]], path: Path, size: int) -> str:
    """Unknown pieces, and the lengths of captions without the [CLS] of a row, as text."""
    tokenizer = load_tokenizer(str(path))
    lines = [f"{path}: {tokenizer.vocabulary.size} pieces, {path.stat().st_size} bytes"]
    if tokenizer.vocabulary.size < (1 - _SLACK) * size:
        lines.append(f"the captions give no more pieces; {size} were asked for")
    groups = {
        "first captions": {captions[0] for captions in samples if captions},
        "all captions": {caption for captions in samples for caption in captions},
    }
    for name, texts in groups.items():
        pieces = tokenizer.vocabulary.split(tf.constant(sorted(texts)))
        lengths = pieces.row_lengths().numpy()
        unknown = (pieces == tokenizer.vocabulary.unk_id).flat_values.numpy()
        p50, p95 = np.percentile(lengths, [50, 95])
        lines.append(
            f"{name}: {len(texts)} distinct, {unknown.mean():.3%} of pieces unknown; pieces: "
            f"median {p50:.0f}, 95 % {p95:.0f}, max {lengths.max()}"
        )
        lines.append("  " + "  ".join(f"{n}:{c}" for n, c in enumerate(np.bincount(lengths)) if c))
    return "\n".join(lines)
