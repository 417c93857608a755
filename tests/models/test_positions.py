"""Position tables."""

import numpy as np
import pytest

from clipa_jax.errors import ConfigError
from clipa_jax.models import positions


def test_sincos_table_equals_values_computed_by_hand():
    table = positions.sincos_2d(3, 8)  # frequencies 1 and 1 / 10,000
    assert table.shape == (9, 8)
    assert table.dtype == np.float32
    x, y = 2, 1  # patches count along rows
    expected = [np.sin(x), np.sin(x * 1e-4), np.cos(x), np.cos(x * 1e-4)]
    expected += [np.sin(y), np.sin(y * 1e-4), np.cos(y), np.cos(y * 1e-4)]
    np.testing.assert_allclose(table[y * 3 + x], expected, atol=1e-7)


def test_sincos_of_a_finer_grid_extrapolates():
    coarse = positions.sincos_2d(6, 16).reshape(6, 6, 16)
    fine = positions.sincos_2d(16, 16).reshape(16, 16, 16)
    np.testing.assert_array_equal(fine[:6, :6], coarse)


def test_sincos_needs_a_width_divisible_by_4():
    with pytest.raises(ConfigError, match="width divisible by 4; got 10"):
        positions.sincos_2d(2, 10)


def test_resize_1d_is_linear_between_the_centers():
    table = np.arange(4.0, dtype=np.float32).reshape(1, 4, 1)
    got = np.asarray(positions.resize_1d(table, 8))[0, :, 0]
    np.testing.assert_allclose(got, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-6)


def test_resize_2d_does_not_change_the_class_row():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 1 + 16, 5)).astype(np.float32)
    got = np.asarray(positions.resize_2d(table, 36))
    assert got.shape == (1, 37, 5)
    np.testing.assert_array_equal(got[:, 0], table[:, 0])


def test_resize_2d_does_not_mix_rows_and_columns():
    """A ramp along x stays a ramp along x: the grid is not resized as a sequence."""
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32), (8, 8)).reshape(1, 64, 1)
    table = np.concatenate([np.full((1, 1, 1), 99, np.float32), ramp], axis=1)
    got = np.asarray(positions.resize_2d(table, 256))[0, 1:, 0].reshape(16, 16)
    np.testing.assert_allclose(got, np.broadcast_to(got[:1], (16, 16)), atol=1e-5)
    inner = got[0, 4:12]
    np.testing.assert_allclose(inner, 0.5 * np.arange(4, 12) - 0.25, atol=1e-2)


def test_resize_2d_to_the_same_grid_changes_nothing():
    table = np.random.default_rng(0).normal(size=(1, 17, 3)).astype(np.float32)
    np.testing.assert_allclose(positions.resize_2d(table, 16), table, atol=1e-6)


def test_resize_2d_needs_square_numbers_of_patches():
    table = np.zeros((1, 17, 3), np.float32)
    with pytest.raises(ConfigError, match="15 patches do not form a square grid"):
        positions.resize_2d(table, 15)
