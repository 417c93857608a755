"""A stage that starts from weights of another format."""

import jax
import numpy as np
import optax

from clipa_jax import models
from clipa_jax.config.settings import Settings
from clipa_jax.training import checkpoint
from clipa_jax.weights import open_weights
from tests.helpers import random_clip, released, tiny


def start_from(init, config, folder):
    """The first state of a stage that starts from `init`; it is saved in `folder`."""
    checkpoints = checkpoint.Checkpoints(str(folder))
    start = checkpoint.first_state(
        checkpoints,
        tiny.make_spec(config, tiny.mesh(), optax.sgd(1.0)),
        seed=0,
        init=str(init),
        edits=("image_positions", "text_positions"),
        open_weights=open_weights,
    )
    checkpoints.save(jax.block_until_ready(start.state), {})
    checkpoints.close()
    assert int(start.state.step) == 0
    return start


def test_from_a_released_file_with_resized_position_tables(tmp_path):
    config = released.config(res=112, text_len=16)
    start = start_from(released.GOLDEN / "clipa_checkpoint.npz", config, tmp_path)
    assert start.lines[1:] == ["txt/pos_embedding: (1, 8, 48) -> (1, 16, 48)"]
    recorded = released.arrays("forward")
    with jax.default_matmul_precision("highest"):
        zimg, ztxt, _ = models.build(Settings(config.model)).apply(
            {"params": start.state.params}, recorded["image2"], recorded["tokens2"]
        )
    np.testing.assert_allclose(zimg, recorded["zimg2"], atol=2e-5)
    np.testing.assert_allclose(ztxt, recorded["ztxt2"], atol=2e-5)


def test_from_an_open_clip_folder_at_another_resolution(tmp_path):
    leaves = random_clip.weights(random_clip.config(input__res=32))
    folder = random_clip.write_open_clip(
        tmp_path / "torch", random_clip.config(input__res=32), leaves
    )
    config = random_clip.config(input__res=48, input__text_len=16)
    start = start_from(folder, config, tmp_path / "stage")
    assert start.lines[1:] == ["txt/pos_embedding: (1, 12, 96) -> (1, 16, 96)"]
    saved = open_weights(str(tmp_path / "stage")).read()
    assert saved.keys() == leaves.keys()
    np.testing.assert_array_equal(saved["img/head/kernel"], leaves["img/head/kernel"])
