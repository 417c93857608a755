"""Vocabularies and word counts of captions."""

import gzip
from pathlib import Path

from absl import flags

from clipa_jax.prepare import captions, vocabulary
from clipa_jax.runtime import cli

FLAGS = flags.FLAGS


def train_vocab(argv: list[str]) -> None:
    """Trains a vocabulary on captions and prints its coverage.

        python tools/train_vocab.py --source=data/emoji/1.0.0 --size=2000 --out=mine.txt
        python tools/train_vocab.py --source='webdataset:raw/*.tar' --size=8000 --out=mine.txt
        python tools/train_vocab.py --source=captions.txt --kind=sentencepiece --out=mine.model

    The source is anything that `config.input.source` takes, a TFDS folder, or a text file with one
    caption a line. `--config.*.vocab` takes the result wherever it takes BERT's vocabulary.
    """
    del argv
    samples, out = captions.read(FLAGS.source, FLAGS.split, FLAGS.feature), Path(FLAGS.out)
    vocabulary.train(samples, FLAGS.kind, FLAGS.size, out)
    cli.say(vocabulary.coverage(samples, out, FLAGS.size))


def count_words(argv: list[str]) -> None:
    """Counts the words of captions, for the reductions `frequency` and `rarest`.

        python tools/count_words.py --source=captions.txt --out=words.tsv.gz
        python tools/count_words.py --source=data/emoji/1.0.0 --split=train --out=words.tsv

    The source is what tools/train_vocab.py takes. A config then says
    `reduction="frequency:words.tsv"`. Words are lower-cased, without accents and punctuation; the
    table is gzipped for *.gz.
    """
    del argv
    counts = captions.count_words(captions.read(FLAGS.source, FLAGS.split, FLAGS.feature))
    content = "".join(f"{word}\t{count}\n" for word, count in counts.most_common()).encode()
    is_gzip = FLAGS.out.endswith(".gz")
    Path(FLAGS.out).write_bytes(gzip.compress(content, mtime=0) if is_gzip else content)
    cli.say(f"{len(counts)} words, {counts.total()} in all -> {FLAGS.out}")


def _define() -> None:
    flags.DEFINE_string("source", None, "Source of the captions.", required=True)
    flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
    flags.DEFINE_string("feature", "captions", "Feature with the text.")
    cli.writes_to_disk(flags.DEFINE_string("out", None, "The file to write.", required=True))


def start_train_vocab() -> None:
    """Runs the command line of `train_vocab`."""
    _define()
    flags.DEFINE_enum("kind", "wordpiece", sorted(vocabulary.SUFFIXES), "Of the vocabulary.")
    flags.DEFINE_integer("size", 2000, "Pieces of the vocabulary, at most.", lower_bound=6)
    cli.run(train_vocab, doc=train_vocab.__doc__, needs_config=False)


def start_count_words() -> None:
    """Runs the command line of `count_words`."""
    _define()
    cli.run(count_words, doc=count_words.__doc__, needs_config=False)
