"""Trains a vocabulary on captions and prints its coverage.

    python tools/train_vocab.py --source=data/emoji/1.0.0 --size=2000 --out=data/emoji/vocab.txt
    python tools/train_vocab.py --source='webdataset:raw/*.tar' --size=8000 --out=mine.txt
    python tools/train_vocab.py --source=captions.txt --kind=sentencepiece --out=mine.model

The source is anything that `config.input.source` takes, a TFDS folder, or a text file with one
caption a line. `--config.*.vocab` takes the result wherever it takes BERT's vocabulary.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax

from clipa_jax.prepare import captions, vocabulary
from clipa_jax.runtime import cli

SOURCE = flags.DEFINE_string("source", None, "Source of the captions.", required=True)
SPLIT = flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
FEATURE = flags.DEFINE_string("feature", "captions", "Feature with the text.")
KIND = flags.DEFINE_enum("kind", "wordpiece", sorted(vocabulary.SUFFIXES), "Of the vocabulary.")
SIZE = flags.DEFINE_integer("size", 2000, "Number of pieces, at most.", lower_bound=6)
OUT = flags.DEFINE_string("out", None, "The file to write.", required=True)


def main(argv: list[str]) -> None:
    """Trains the vocabulary and prints its coverage."""
    del argv
    samples, out = captions.read(SOURCE.value, SPLIT.value, FEATURE.value), Path(OUT.value)
    vocabulary.train(samples, KIND.value, SIZE.value, out)
    cli.say(vocabulary.coverage(samples, out, SIZE.value))


if __name__ == "__main__":
    cli.run(main, needs_config=False)
