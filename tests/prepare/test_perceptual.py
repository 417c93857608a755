"""The hash by which near-duplicates are found."""

import io

import numpy as np
from PIL import Image

from clipa_jax.prepare import perceptual


def blobs(seed: int) -> Image.Image:
    """A smooth picture of 96 pixels a side."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)


def test_size_format_and_brightness_change_few_bits_and_another_picture_many():
    picture = blobs(0)
    jpeg = io.BytesIO()
    picture.resize((60, 60)).save(jpeg, "JPEG", quality=70)
    darker = (np.asarray(picture) * 0.8).astype(np.uint8)
    alike = [np.asarray(Image.open(jpeg)), darker, np.asarray(picture.convert("L"))[..., None]]
    first = perceptual.picture_hash(np.asarray(picture))
    distances = [int(np.bitwise_count(first ^ perceptual.picture_hash(a))) for a in alike]
    assert max(distances) <= 6
    others = [perceptual.picture_hash(np.asarray(blobs(seed))) for seed in range(1, 20)]
    assert np.bitwise_count(np.array(others) ^ first).min() > 12


def test_near_hashes_are_found_in_parts_as_well(monkeypatch):
    hash_N = np.array([0, 0b111, 2**63, 2**64 - 1], np.uint64)
    others_M = np.array([0b1, 2**63], np.uint64)
    expected = [True, True, True, False]
    assert perceptual.are_near(hash_N, others_M, 2).tolist() == expected
    monkeypatch.setattr(perceptual, "ROWS", 2)
    assert perceptual.are_near(hash_N, others_M, 2).tolist() == expected
    assert not perceptual.are_near(hash_N, others_M[:0], 64).any()
