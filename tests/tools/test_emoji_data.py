"""The bundled demo data is what its card says it is."""

import collections
import os
import pathlib
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from clipa_jax.preprocess.text import load_tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data" / "emoji"
STYLES = ("noto", "openmoji", "fluent", "fluent_flat", "twemoji")


@pytest.fixture(scope="module")
def builder():
    return tfds.builder_from_directory(FOLDER / "1.0.0")


@pytest.fixture(scope="module")
def samples(builder) -> dict[str, list[dict]]:
    """Every sample of every split, pictures still encoded."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: list(tfds.as_numpy(builder.as_dataset(split, decoders=decoders)))
        for split in builder.info.splits
    }


def card_counts() -> dict[str, list[int]]:
    """The rows of the card's table of counts: style -> numbers."""
    card = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", card, re.MULTILINE)
    return {style: [int(n) for n in numbers] for style, *numbers in rows}


def test_counts_match_the_card(builder, samples):
    splits = ("train", "heldout_pictures", "heldout_vendor")
    styles = {s: collections.Counter(e["style"].decode() for e in samples[s]) for s in splits}
    card = card_counts()
    assert set(card) == {*STYLES, "all"}
    for style in STYLES:
        counts = [styles[split][style] for split in splits]
        assert card[style] == [*counts, sum(counts)]
    totals = [builder.info.splits[split].num_examples for split in splits]
    assert card["all"] == [*totals, builder.info.features["concept"].num_classes]
    assert totals == [len(samples[split]) for split in splits]


def test_the_heldout_vendor_is_held_out(samples):
    assert {e["style"] for e in samples["heldout_vendor"]} == {b"twemoji"}
    assert b"twemoji" not in {e["style"] for e in samples["train"] + samples["heldout_pictures"]}


def test_no_picture_is_in_two_splits(samples):
    everything = [e for rows in samples.values() for e in rows]
    assert len({e["id"] for e in everything}) == len(everything)
    train = {e["image"] for e in samples["train"]}
    assert not [e["id"] for e in samples["heldout_pictures"] if e["image"] in train]
    assert not [e["id"] for e in samples["heldout_vendor"] if e["image"] in train]


def test_train_knows_every_concept(builder, samples):
    known = {int(e["concept"]) for e in samples["train"]}
    assert known == set(range(builder.info.features["concept"].num_classes))
    assert {int(e["group"]) for e in samples["train"]} == set(range(9))


def test_labels_are_in_range_and_agree_with_captions(builder, samples):
    features = builder.info.features
    names, groups = features["concept"].names, features["group"].names
    for rows in samples.values():
        for e in rows:
            name = names[e["concept"]]  # a list: a negative or large index would not be a name
            assert 0 <= e["concept"] < len(names) and 0 <= e["group"] < len(groups)
            captions = [caption.decode() for caption in e["captions"]]
            assert captions[0] == name == name.lower()
            assert len(captions) == len(set(captions)) >= 3
            assert all(name in caption and caption.strip() == caption for caption in captions)
            assert captions[-1].endswith(f", {groups[e['group']]}: {name}")


def test_pictures_decode(samples):
    images = [e["image"] for rows in samples.values() for e in rows]
    decoded = tf.data.Dataset.from_tensor_slices(images).map(tf.io.decode_jpeg)
    stack = np.stack(list(decoded.as_numpy_iterator()))
    assert stack.shape == (len(images), 64, 64, 3) and stack.dtype == np.uint8
    drawn = (stack < 240).any(axis=(1, 2, 3))  # the palest are white hearts and fog
    assert drawn.all(), "a picture is blank"
    assert np.median(stack[:, 0]) > 250, "the background is white"


def test_vocabulary_covers_the_captions(samples):
    vocabulary = load_tokenizer(str(FOLDER / "vocab.txt")).vocabulary
    lines = (FOLDER / "vocab.txt").read_text().splitlines()
    assert lines[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert vocabulary.size == len(lines) <= 2000
    captions = sorted({c for rows in samples.values() for e in rows for c in e["captions"]})
    pieces = vocabulary.split(tf.constant(captions))
    assert not tf.reduce_any(pieces.flat_values == vocabulary.unk_id)
    assert int(pieces.row_lengths().numpy().max()) <= 40


def test_the_dataset_is_small_enough_to_clone():
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    assert size < 25e6, f"{size / 1e6:.1f} MB in {FOLDER}, which everybody clones"


def test_every_style_has_its_license():
    for style in STYLES:
        vendor = style.removesuffix("_flat")
        assert "SPDX-License-Identifier" in (FOLDER / "LICENSES" / f"{vendor}.txt").read_text()
