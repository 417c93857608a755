"""CLIP's own tokenizer beside open_clip's."""

import gzip
import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from open_clip import tokenizer as open_clip_tokenizer

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.preprocess import cleaning, lexicon, text, vocab
from clipa_jax.preprocess.text import load_tokenizer

SCRIPTS = [
    *[(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x400, 0x500), (0x590, 0x700), (0x900, 0x980)],
    *[(0xE00, 0xE80), (0xAC00, 0xD7A4), (0x4E00, 0x9FFF), (0x3040, 0x3100), (0x1F300, 0x1F6FF)],
    *[(0x2000, 0x2100), (0xFF00, 0xFFEF), (0, 0x20)],
]
ODD = [
    "It's I'M we'LL &amp;amp; <b> &lt; a_b__c 12345 3.14",
    "<start_of_text> a <END_OF_TEXT>x",
    "",
    "  a\t\nb ",
    "\u2019tis \u201cquoted\u201d \u2026 \u00bd \ufb01 \u017f '\u017f \u212a",
    "\u2028x\u2029y \u00c3\u00a9",
    "a photo of a dog, " * 30,
]


@pytest.fixture(scope="module")
def path():
    return os.path.join(
        os.path.dirname(open_clip_tokenizer.__file__), "bpe_simple_vocab_16e6.txt.gz"
    )


def strings(count: int) -> list[str]:
    """Random strings, each of two scripts and ASCII, or of all assigned characters."""
    rng = random.Random(0)
    everything = [c for c in map(chr, range(0x110000)) if unicodedata.category(c)[1] not in "nso"]
    result = []
    for _ in range(count):
        scripts = [rng.choice(SCRIPTS), rng.choice(SCRIPTS), SCRIPTS[0]]
        chars = (chr(rng.randrange(*rng.choice(scripts))) for _ in range(rng.randrange(30)))
        other = (rng.choice(everything) for _ in range(rng.randrange(30)))
        result.append("".join(chars if rng.random() < 0.7 else other))
    return result


def test_tokens_are_those_of_open_clip_in_many_scripts():
    texts = [*ODD, *strings(1_000)]
    theirs = open_clip_tokenizer.SimpleTokenizer()(texts, 77).numpy()
    cleaned = [cleaning.open_clip(text) for text in texts]
    np.testing.assert_array_equal(load_tokenizer("clip").encode(cleaned, 77), theirs)


def test_the_files_of_open_clip_and_of_the_hub_are_one_vocabulary(path, tmp_path):
    lines = gzip.decompress(Path(path).read_bytes()).decode().split("\n")[1 : 49_152 - 258 + 1]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", "utf-8")
    vocabularies = [vocab.read_vocabulary(v) for v in (path, str(tmp_path / "merges.txt"), "clip")]
    assert [v.size for v in vocabularies] == [49_408] * 3
    assert all(v.same_pieces(vocabularies[0]) for v in vocabularies)


def test_the_copy_in_a_workdir_is_found(path, tmp_path):
    for name in (path, "clip"):
        vocab.keep_copy(name, tmp_path)
        assert vocab.read_vocabulary(vocab.kept_copy(tmp_path)).size == 49_408


def test_a_row_ends_with_the_end_whatever_the_reduction(path):
    tokenizer = load_tokenizer(path)
    for reduction in ("truncate", "random", "block", "syntax"):
        rows = tokenizer.encode(["a small red house in the green hills", "a"], 6, reduction)
        assert rows[:, 0].tolist() == [49_406] * 2 and rows[0, -1] == 49_407
        assert rows[1].tolist() == [49_406, 320, 49_407, 0, 0, 0]
    with pytest.raises(ConfigError, match="needs its first and its last token"):
        tokenizer.encode(["a"], 1)


def test_pieces_belong_to_the_words_that_they_end(path):
    vocabulary = load_tokenizer(path).vocabulary
    ids_P = vocabulary.split(tf.constant(["unbelievably flabbergasted houses"])).values
    words = [""] * 3
    for word, piece in zip(
        lexicon.word_index(vocabulary, ids_P).numpy(), ids_P.numpy(), strict=True
    ):
        words[word] += vocabulary.surfaces[piece]
    assert words == ["unbelievably", "flabbergasted", "houses"]


@pytest.mark.parametrize("content", [b"#version\na b\n", b"#version\n\xff"])
def test_another_file_is_no_vocabulary(tmp_path, content):
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(DataError, match="is not the vocabulary of CLIP's tokenizer"):
        text.load_tokenizer(str(tmp_path / "merges.txt"))
