"""Captions of any source, and vocabularies trained on them."""

import numpy as np
import pytest

from clipa_jax.errors import DataError
from clipa_jax.prepare import captions, vocabulary
from clipa_jax.preprocess.text import load_tokenizer
from clipa_jax.runtime import storage
from tests.prepare.conftest import example, write

TEXTS = ["a red heart", "a café, and a dog", "the dog"]


def test_captions_are_read_from_every_kind_of_source(tmp_path):
    records = [example(jpg=b"", txt=text, key=str(n)) for n, text in enumerate(TEXTS)]
    write(tmp_path / "a.tfrecord", records)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    expected = [[text] for text in TEXTS]
    assert captions.read(str(tmp_path / "a.txt")) == expected
    storage.write("memory://bucket/a.txt", (tmp_path / "a.txt").read_bytes())
    assert captions.read("memory://bucket/a.txt") == expected
    assert captions.read(f"tfrecord:{tmp_path}/*.tfrecord") == expected
    assert captions.read(f"tfrecord:{tmp_path}/*.tfrecord", feature="key") == [["0"], ["1"], ["2"]]


def test_captions_of_a_tfds_folder_come_in_the_order_of_its_files():
    samples = captions.read("data/emoji/1.0.0", "heldout_vendor")
    names = [texts[0] for texts in samples]
    assert len(samples) == 1_906 and names == [text.lower() for text in names]
    assert samples == captions.read("tfds:data/emoji/1.0.0", "heldout_vendor")


def test_a_source_without_captions_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="no captions"):
        captions.read(str(tmp_path / "empty.txt"))


def test_words_are_counted_without_accents_and_punctuation():
    counts = captions.count_words([[text] for text in TEXTS])
    assert counts == {"a": 3, "red": 1, "heart": 1, "cafe": 1, "and": 1, "dog": 2, "the": 1}


@pytest.mark.parametrize("size", [500, 1_500])
def test_wordpiece_reaches_its_size_on_rare_words(tmp_path, size):
    """Every word occurs at most 9 times; the learner's default keeps words from 10 on."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnop"))
    words = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(1_500)]
    samples = [[" ".join(rng.choice(words, 4))] for _ in range(1_200)]
    out = tmp_path / "vocab.txt"
    vocabulary.train(samples, "wordpiece", size, out)
    assert 0.95 * size <= load_tokenizer(str(out)).vocabulary.size <= size


def test_the_special_pieces_come_first_in_both_kinds(tmp_path):
    samples = [[f"{text} number {n}"] for n, text in enumerate(TEXTS * 30)]
    for kind, suffix in vocabulary.SUFFIXES.items():
        out = tmp_path / f"vocab{suffix}"
        vocabulary.train(samples, kind, 60, out)
        ids = load_tokenizer(str(out)).vocabulary
        assert (ids.pad_id, ids.unk_id, ids.cls_id) == (0, 1, 2)
    with pytest.raises(DataError, match="ends in .txt"):
        vocabulary.train(samples, "wordpiece", 60, tmp_path / "vocab.model")
