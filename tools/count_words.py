"""Counts the words of captions, for the reductions `frequency` and `rarest`.

    python tools/count_words.py --source=captions.txt --out=words.tsv.gz
    python tools/count_words.py --source=data/emoji/1.0.0 --split=train --out=words.tsv

The source is what tools/train_vocab.py takes. A config then says `reduction="frequency:words.tsv"`.
Words are lower-cased, without accents and punctuation.
"""

import gzip
import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax

from clipa_jax.prepare import captions
from clipa_jax.runtime import cli

SOURCE = flags.DEFINE_string("source", None, "Source of the captions.", required=True)
SPLIT = flags.DEFINE_string("split", "train", "Split of the source, where it has splits.")
FEATURE = flags.DEFINE_string("feature", "captions", "Feature with the text.")
OUT = flags.DEFINE_string("out", None, "The table to write, gzipped for *.gz.", required=True)


def main(argv: list[str]) -> None:
    """Writes the table."""
    del argv
    counts = captions.count_words(captions.read(SOURCE.value, SPLIT.value, FEATURE.value))
    content = "".join(f"{word}\t{count}\n" for word, count in counts.most_common()).encode()
    is_gzip = OUT.value.endswith(".gz")
    Path(OUT.value).write_bytes(gzip.compress(content, mtime=0) if is_gzip else content)
    cli.say(f"{len(counts)} words, {counts.total()} in all -> {OUT.value}")


if __name__ == "__main__":
    cli.run(main, needs_config=False)
