"""Released files: their layouts, and what is refused."""

import ml_dtypes
import numpy as np
import pytest

import clipa_jax
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.weights import npz, open_clip_folder, open_weights
from clipa_jax.weights.fit import fit
from tests.helpers import random_clip


@pytest.fixture
def config():
    return random_clip.config(input__res=16)


@pytest.fixture
def leaves(config):
    return random_clip.weights(config)


def _layouts(leaves):
    trainer = {f"params/{name}": leaf for name, leaf in leaves.items()}
    moments = {f"opt/0/mu/{name}": leaf for name, leaf in leaves.items()}
    return {
        "trainer": {**trainer, **moments, "chrono/accum_train_time": np.array(3.0)},
        "bare": leaves,
        "target": {f"opt/target/{name}": x for name, x in leaves.items()} | {"opt/state/step": 7},
    }


@pytest.mark.parametrize("layout", ["trainer", "bare", "target"])
def test_every_layout_of_the_released_files_loads(tmp_path, config, leaves, layout):
    np.savez(tmp_path / "x.npz", **_layouts(leaves)[layout])
    model = clipa_jax.load(str(tmp_path / "x.npz"), config=config)
    np.testing.assert_array_equal(model.params["img"]["head"]["kernel"], leaves["img/head/kernel"])
    assert model.encode_text(["a dog", "a cat"]).shape == (2, 128)
    assert model.logit_scale == pytest.approx(min(np.exp(leaves["t"][0]), 100))


def test_bfloat16_that_numpy_stored_as_void_is_read(tmp_path, config, leaves):
    short = {name: leaf.astype(ml_dtypes.bfloat16) for name, leaf in leaves.items()}
    np.savez(tmp_path / "x.npz", **short)
    assert np.load(tmp_path / "x.npz")["t"].dtype.kind == "V"
    read = open_weights(str(tmp_path / "x.npz")).read_like(leaves)
    for name, leaf in short.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], leaf.astype(np.float32))


def test_flat_attention_kernels_are_split_by_head(tmp_path, leaves):
    flat = dict(leaves)
    for tower in ("img", "txt"):
        attention = f"{tower}/Transformer/encoderblock_0/MultiHeadDotProductAttention_0"
        for part in ("query", "key", "value", "out"):
            kernel, bias = f"{attention}/{part}/kernel", f"{attention}/{part}/bias"
            flat[kernel] = leaves[kernel].reshape(96, 96)
            flat[bias] = leaves[bias].reshape(96)
    npz.write(tmp_path / "x.npz", flat)
    read = open_weights(str(tmp_path / "x.npz")).read_like(leaves)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(read[name], leaf, err_msg=name)


def test_weights_that_do_not_fit_are_named_with_both_shapes(tmp_path, leaves):
    del leaves["img/cls"]
    npz.write(tmp_path / "x.npz", {**leaves, "img/MAPHead_0/probe": np.zeros((1, 1, 96))})
    config = random_clip.config(input__res=16, input__text_len=8)
    with pytest.raises(CheckpointError) as error:
        clipa_jax.load(str(tmp_path / "x.npz"), config=config)
    assert "img/MAPHead_0/probe: extra, (1, 1, 96)" in str(error.value)
    assert "img/cls: missing, expected (1, 1, 96)" in str(error.value)
    assert "txt/pos_embedding: shape (1, 12, 96), expected (1, 8, 96)" in str(error.value)


def test_a_stored_table_of_sincos_positions_is_left_out(leaves):
    table = open_clip_folder.sincos_table(9, 96)
    float32_noise = {**leaves, "img/pos_embedding": table + 1e-5}
    assert fit(float32_noise, leaves).keys() == leaves.keys()
    learned = {**leaves, "img/pos_embedding": table + 1e-2}
    assert "img/pos_embedding" in fit(learned, leaves)


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(CheckpointError, match=r"x\.npz is not a \.npz archive"):
        npz.read(tmp_path / "x.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CheckpointError, match=r"not a \.npz archive of plain arrays.*allow_pickle"):
        npz.read(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 torn"])
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.npz is not a \.npz archive"):
        npz.read(tmp_path / "x.npz")


def test_a_model_that_scans_over_its_layers_loads_the_same(tmp_path, config, leaves):
    npz.write(tmp_path / "x.npz", leaves)
    plain = clipa_jax.load(str(tmp_path / "x.npz"), config=config)
    config.model.layers = "scanned"
    scanned = clipa_jax.load(str(tmp_path / "x.npz"), config=config)
    tokens_BL = np.arange(24, dtype=np.int32).reshape(2, 12)
    np.testing.assert_array_equal(plain.encode_text(tokens_BL), scanned.encode_text(tokens_BL))


def test_a_config_without_vocabulary_takes_token_ids_only(tmp_path, config, leaves):
    npz.write(tmp_path / "x.npz", leaves)
    config.input.vocab = ""
    model = clipa_jax.load(str(tmp_path / "x.npz"), config=config)
    assert model.encode_text(np.zeros((1, 12), np.int32)).shape == (1, 128)
    with pytest.raises(DataError, match="pass token ids"):
        model.encode_text(["a dog"])
