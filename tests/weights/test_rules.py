"""The table of rules: every leaf, in both directions, exactly."""

import numpy as np
import pytest

from clipa_jax.errors import CheckpointError
from clipa_jax.weights import rules
from tests.helpers import random_clip

HEADS = {"img": 6, "txt": 6}


@pytest.fixture
def leaves():
    config = random_clip.config(
        "S/16", model__image__depth=2, model__image__posemb="learned", model__image__pre_norm=True
    )
    return random_clip.weights(config)


def test_weights_come_back_exactly_from_a_state_dict(leaves):
    state = rules.to_open_clip(leaves)
    back = rules.from_open_clip(state, HEADS)
    assert back.keys() == leaves.keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(back[name], leaf, err_msg=name)


def test_attention_kernels_are_stacked_and_transposed(leaves):
    state = rules.to_open_clip(leaves)
    attention = "img/Transformer/encoderblock_1/MultiHeadDotProductAttention_0"
    stacked = state["visual.transformer.resblocks.1.attn.in_proj_weight"]
    assert stacked.shape == (3 * 384, 384)
    # Key, head 2, channel 5 of the head: row 384 + 2 * 64 + 5.
    row = stacked[384 + 2 * 64 + 5]
    np.testing.assert_array_equal(row, leaves[f"{attention}/key/kernel"][:, 2, 5])


def test_the_bias_of_the_sigmoid_loss_becomes_a_scalar(leaves):
    state = rules.to_open_clip({**leaves, "b": np.array([-9.5], np.float32)})
    assert state["logit_bias"].shape == () and state["logit_bias"] == -9.5
    np.testing.assert_array_equal(rules.from_open_clip(state, HEADS)["b"], [-9.5])


def test_the_prefix_of_a_separate_text_tower_is_removed(leaves):
    state = rules.to_open_clip(leaves)
    custom = {key if "visual" in key else f"text.{key}": tensor for key, tensor in state.items()}
    back = rules.from_open_clip(custom, HEADS)
    np.testing.assert_array_equal(back["txt/head/kernel"], leaves["txt/head/kernel"])
    assert back.keys() == leaves.keys()


@pytest.mark.parametrize(
    "name", ["img/MAPHead_0/probe", "txt/Transformer/encoderblock_0/LayerScale_0/gamma", "bias"]
)
def test_a_parameter_without_a_rule_is_named(leaves, name):
    with pytest.raises(CheckpointError, match=rf"no place for {name} \(3,\)"):
        rules.to_open_clip({**leaves, name: np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    "key",
    [
        "visual.attn_pool.query",
        "visual.transformer.resblocks.0.ls_1.gamma",
        "cls_emb",
    ],
)
def test_a_tensor_without_a_rule_is_named(leaves, key):
    state = {**rules.to_open_clip(leaves), key: np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match=rf"no place for {key} \(3,\)"):
        rules.from_open_clip(state, HEADS)


def test_a_gap_between_layers_is_refused(leaves):
    state = rules.to_open_clip(leaves)
    gap = {key.replace("visual.transformer.resblocks.1", "visual.transformer.resblocks.7"): tensor
           for key, tensor in state.items()}  # fmt: skip
    with pytest.raises(CheckpointError, match=r"no place for visual\.transformer\.resblocks\.7"):
        rules.from_open_clip(gap, HEADS)


def test_a_tensor_of_another_shape_is_named(leaves):
    state = rules.to_open_clip(leaves)
    state["transformer.resblocks.0.attn.in_proj_weight"] = np.zeros((7, 5), np.float32)
    with pytest.raises(CheckpointError, match=r"attn\.in_proj_weight \(7, 5\) is not of the form"):
        rules.from_open_clip(state, HEADS)


def test_a_tensor_under_two_names_is_refused(leaves):
    state = rules.to_open_clip(leaves)
    state["text.ln_final.weight"] = state["ln_final.weight"]
    with pytest.raises(CheckpointError, match=r"has ln_final\.weight twice"):
        rules.from_open_clip(state, HEADS)
