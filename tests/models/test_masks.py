"""Patch masks: exact counts, legal indices, every window reachable."""

import jax
import numpy as np
import pytest

from clipa_jax.errors import ConfigError
from clipa_jax.models import masks

GRID = [("random", 256, 0.3, 179), ("random", 576, 0.4, 345), ("random", 36, 0.75, 9)]
GRID += [("random", 16, 0.99, 1), ("random", 7, 0.5, 3)]
GRID += [("grid", 256, 0.3, 13 * 13), ("grid", 576, 0.4, 19 * 19), ("grid", 16, 0.75, 4)]
GRID += [("block", 256, 0.3, 13 * 13), ("block", 36, 0.75, 9), ("block", 16, 0.99, 1)]


@pytest.mark.parametrize(("name", "patches", "ratio", "kept"), GRID)
def test_masks_keep_the_exact_number_of_distinct_ascending_patches(name, patches, ratio, kept):
    keep_BK = np.asarray(masks.MASKS[name](jax.random.key(0), 64, patches, ratio))
    assert keep_BK.shape == (64, kept)
    assert keep_BK.dtype == np.int32
    assert masks.kept_patches(name, patches, ratio) == kept
    assert keep_BK.min() >= 0 and keep_BK.max() < patches
    assert (np.diff(keep_BK, axis=1) > 0).all()


@pytest.mark.parametrize("name", sorted(masks.MASKS))
def test_masks_with_ratio_0_keep_all_patches(name):
    assert masks.kept_patches(name, 36, 0.0) == 36


def test_random_keeps_every_patch_equally_often():
    keep_BK = np.asarray(masks.random(jax.random.key(1), 8_000, 16, 0.5))
    share_P = np.bincount(keep_BK.ravel(), minlength=16) / 8_000
    # Standard error 0.0056: five of them.
    np.testing.assert_allclose(share_P, 0.5, atol=0.028)


def corners(keep_BK, side, kept):
    """How often each window occurs, by its corner; checks that they are windows."""
    rows_BK, columns_BK = np.divmod(keep_BK, side)
    for lines_BK in (rows_BK, columns_BK):
        assert (np.ptp(lines_BK, axis=1) == kept - 1).all()
    found, count = np.unique(keep_BK[:, 0], return_counts=True)
    return {(index // side, index % side): n for index, n in zip(found, count, strict=True)}


def test_block_is_a_window_and_each_is_equally_likely():
    keep_BK = np.asarray(masks.block(jax.random.key(2), 4_000, 36, 0.56))  # 4 x 4 of 6 x 6
    count = corners(keep_BK, side=6, kept=4)
    assert set(count) == {(row, column) for row in range(3) for column in range(3)}
    # Standard error 20 around 444: five of them.
    assert all(abs(n - 4_000 / 9) < 100 for n in count.values())


def test_grid_is_regular_and_shifts_reach_every_patch():
    keep_BK = np.asarray(masks.grid(jax.random.key(3), 1_000, 64, 0.75))  # 4 x 4 of 8 x 8
    rows_BK, columns_BK = np.divmod(keep_BK, 8)
    for rows_K, columns_K in zip(rows_BK, columns_BK, strict=True):
        assert (np.diff(np.unique(rows_K)) == 2).all()
        assert (np.diff(np.unique(columns_K)) == 2).all()
        assert len(np.unique(rows_K)) == len(np.unique(columns_K)) == 4
    assert set(keep_BK.ravel()) == set(range(64))


@pytest.mark.parametrize("name", sorted(masks.MASKS))
def test_the_same_key_gives_the_same_mask_and_rows_differ(name):
    one, again = (masks.MASKS[name](jax.random.key(4), 32, 64, 0.75) for _ in range(2))
    other = masks.MASKS[name](jax.random.key(5), 32, 64, 0.75)
    np.testing.assert_array_equal(one, again)
    assert (np.asarray(one) != np.asarray(other)).any()
    assert len(np.unique(np.asarray(one), axis=0)) > 1


@pytest.mark.parametrize("name", ["grid", "block"])
def test_grid_and_block_masks_need_a_square_number_of_patches(name):
    with pytest.raises(ConfigError, match="35 patches do not form a square grid; use the random"):
        masks.MASKS[name](jax.random.key(0), 1, 35, 0.5)
