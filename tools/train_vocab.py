"""Trains a vocabulary on captions, and says how well it covers them.

    python tools/train_vocab.py --source=data/emoji/1.0.0 --size=2000 --out=data/emoji/vocab.txt
    python tools/train_vocab.py --source=captions.txt --kind=sentencepiece --out=mine.model

The source is a TFDS folder (the text feature `--feature` of `--split`) or a text file with one
caption a line. Both kinds lower-case and begin with the pieces [PAD], [UNK], [CLS], [SEP], [MASK]
at 0 to 4, so `--config.*.vocab` takes the result wherever it takes BERT's. WordPiece comes from
tensorflow_text's learner, which splits words as `clipa_jax.preprocess` does.
"""

import argparse
import contextlib
import io
import os
import pathlib
import sys

import numpy as np
from absl import logging

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SUFFIX = {"wordpiece": ".txt", "sentencepiece": ".model"}  # clipa_jax tells the kinds by these


@contextlib.contextmanager
def quiet_stderr():
    """Hides what TensorFlow's C++ writes while it loads; no log-level variable stops all of it."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with quiet_stderr():
    import sentencepiece
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset

    from clipa_jax.preprocess.text import load_tokenizer


def read_captions(source: pathlib.Path, split: str, feature: str) -> list[list[str]]:
    """The captions of every sample, in order.

    Raises:
      ValueError: the source is neither kind, or has no such split, feature or text.
    """
    if source.is_file():
        samples = [[line.strip()] for line in source.read_text().splitlines() if line.strip()]
    elif (source / "features.json").exists():
        builder = tfds.builder_from_directory(source)
        if split not in builder.info.splits:
            raise ValueError(f"{source} has no split {split!r} but {sorted(builder.info.splits)}")
        if feature not in builder.info.features:
            raise ValueError(f"{source} has no {feature!r} but {sorted(builder.info.features)}")
        # pictures are not needed, and decoding them would take most of the time
        decoders = tfds.decode.PartialDecoding({feature: True})
        rows = tfds.as_numpy(builder.as_dataset(split, decoders=decoders, shuffle_files=False))
        samples = [[t.decode() for t in np.atleast_1d(row[feature])] for row in rows]
    else:
        raise ValueError(f"{source} is neither a text file nor a TFDS folder with features.json")
    if not any(samples):
        raise ValueError(f"{source} has no captions")
    return samples


def wordpiece(captions: list[str], size: int, out: pathlib.Path):
    """Writes one piece a line. The learner stops within 5 % below `size`."""
    dataset = tf.data.Dataset.from_tensor_slices(captions).batch(1024)
    pieces = bert_vocab_from_dataset.bert_vocab_from_dataset(
        dataset, size, list(SPECIAL), bert_tokenizer_params={"lower_case": True}
    )
    out.write_text("\n".join(pieces) + "\n")


def sentence_piece(captions: list[str], size: int, out: pathlib.Path):
    """Writes a unigram model with the special pieces where BERT has them."""
    pad, unk, cls, sep, mask = SPECIAL
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,  # few captions may not fill it
        normalization_rule_name="nmt_nfkc_cf",  # lower-case
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
        num_threads=1,  # or two runs could differ
        minloglevel=2,
    )
    out.write_bytes(model.getvalue())


def report(samples: list[list[str]], vocab: pathlib.Path):
    """Prints coverage and how many pieces captions take, without the [CLS] of a row."""
    tokenizer = load_tokenizer(str(vocab))
    print(f"{vocab}: {tokenizer.size} pieces, {vocab.stat().st_size} bytes")
    first = sorted({captions[0] for captions in samples if captions})
    every = sorted({caption for captions in samples for caption in captions})
    for what, texts in (("first captions", first), ("all captions", every)):
        pieces = tokenizer.pieces(tf.constant(texts))
        lengths = pieces.row_lengths().numpy()
        unknown = (pieces == tokenizer.vocabulary.unk_id).flat_values.numpy()
        p50, p95 = np.percentile(lengths, [50, 95])
        print(
            f"{what}: {len(texts)} distinct, {unknown.mean():.3%} of pieces unknown; pieces: "
            f"median {p50:.0f}, 95 % {p95:.0f}, max {lengths.max()}"
        )
        counts = np.bincount(lengths)
        print("  " + "  ".join(f"{n}:{c}" for n, c in enumerate(counts) if c))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--kind", choices=sorted(SUFFIX), default="wordpiece")
    parser.add_argument("--size", type=int, default=2000, help="at most so many pieces")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--split", default="train", help="of a TFDS folder")
    parser.add_argument("--feature", default="captions", help="of a TFDS folder")
    args = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    logging.set_verbosity(logging.ERROR)  # tfds warns about tfds
    if args.out.suffix != SUFFIX[args.kind]:
        parser.error(f"--out={args.out}: a {args.kind} file ends in {SUFFIX[args.kind]}")
    try:
        samples = read_captions(args.source, args.split, args.feature)
    except ValueError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    train = {"wordpiece": wordpiece, "sentencepiece": sentence_piece}[args.kind]
    train([caption for captions in samples for caption in captions], args.size, args.out)
    report(samples, args.out)


if __name__ == "__main__":
    main()
