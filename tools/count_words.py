"""Counts the words of captions, for the reductions `frequency` and `rarest`.

    python tools/count_words.py --source=captions.txt --out=words.tsv.gz
    python tools/count_words.py --source=data/emoji/1.0.0 --split=train --out=words.tsv

The source is what tools/train_vocab.py takes: a text file with one caption a line, or a
TFDS folder. A config then says `reduction="frequency:words.tsv"`. Words are lower-cased,
without accents, and punctuation is left out.
"""

import argparse
import collections
import gzip
import pathlib

from train_vocab import read_captions

from clipa_jax.preprocess.vocab import basic_words


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--feature", default="captions")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    for captions in read_captions(args.source, args.split, args.feature):
        for caption in captions:
            counts.update(word for word in basic_words(caption) if word.isalnum())
    lines = "".join(f"{word}\t{count}\n" for word, count in counts.most_common())
    content = lines.encode()
    args.out.write_bytes(gzip.compress(content, mtime=0) if args.out.suffix == ".gz" else content)
    print(f"{len(counts)} words, {counts.total()} in all -> {args.out}")


if __name__ == "__main__":
    main()
