"""The model's own arithmetic, by hand and against the traced program."""

import jax
import numpy as np
import pytest

from clipa_jax import models, trees
from clipa_jax.config import recipes
from clipa_jax.config.settings import Settings
from clipa_jax.planning import flops, traced, workload
from clipa_jax.training import state
from tests.helpers import tiny


def test_a_layer_by_hand():
    # 2 tokens, width 3, 5 hidden units: four projections of 2 x 3 x 3, scores and their sum of
    # values of 2 x 2 x 3, two dense layers of 2 x 3 x 5; two FLOPs each.
    assert flops.layer(2, 3, 5) == 2 * (4 * 18 + 2 * 12 + 2 * 30)


def test_h_14_at_84_pixels_by_hand():
    got = workload.read(recipes.load("model_h/pretrain")).forward
    image = 32 * (8 * 37 * 1280**2 + 4 * 37**2 * 1280 + 4 * 37 * 1280 * 5120)
    image += 2 * 36 * 14 * 14 * 3 * 1280 + 2 * 1280 * 1024
    text = 24 * (8 * 8 * 1024**2 + 4 * 8**2 * 1024 + 4 * 8 * 1024 * 4096) + 2 * 1024 * 1024
    assert (got.image, got.text, got.loss) == (image, text, 2 * 65_536 * 1024)
    assert got.training == 3 * (image + text + 2 * 65_536 * 1024)


# Published sizes: of the two towers with their embeddings and heads (arXiv 2306.15658, table 1,
# and the released checkpoints); the text tables have 32,000 rows.
@pytest.mark.parametrize(
    ("size", "millions"), [("L/14", 414), ("H/14", 968), ("G/14", 2_517)], ids="LHG"
)
def test_parameters_are_those_of_the_released_models(size, millions):
    got = workload.read(recipes.load(f"model_{size[0].lower()}/pretrain"))
    assert round(got.num_params / 1e6) == millions


def test_parameters_are_those_of_an_initialized_model():
    c = tiny.config()
    _, params = tiny.init(c)
    assert workload.read(c).num_params == trees.count(params)


def test_an_attention_of_another_machine_can_be_planned():
    """cuDNN's cannot be traced without cuDNN."""
    expected = workload.read(tiny.config())
    assert workload.read(tiny.config(model__attention="cudnn")).num_params == expected.num_params


def test_a_mask_leaves_fewer_tokens():
    got = workload.read(recipes.load("model_h/finetune_224"))
    assert (got.image_tokens, got.text_tokens) == (1 + 179, 32)


@pytest.mark.parametrize("pool", ["gap", "map"])
def test_the_forward_pass_counts_every_product_of_the_model(pool):
    c = tiny.config(model__image__depth=2, model__image__pool=pool, model__text__causal=True)
    model, params = tiny.init(c)
    batch = tiny.batch(c)
    encode = jax.jit(lambda p: model.apply({"params": p}, batch["image"], batch["tokens"]))
    forward = workload.read(c).forward
    expected = c.input.batch_size * (forward.image + forward.text)
    assert traced.flops(encode.trace(params)) == expected


def test_planning_makes_no_parameters():
    """G/14 would need 10 GB."""
    c = Settings(recipes.load("model_g/pretrain"))
    shapes = state.param_shapes(models.build(c.model), 84, 8)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    assert np.sum([leaf.size for leaf in jax.tree.leaves(shapes)]) > 2.5e9
