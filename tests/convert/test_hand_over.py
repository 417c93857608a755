"""A stage that starts from a released CLIPA file."""

from pathlib import Path

import jax
import numpy as np
import optax

from clipa_jax import models, sharding
from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.training import checkpoint, state
from clipa_jax.weights import open_weights

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_stage_starts_from_a_released_file_with_its_tables_resized(tmp_path):
    c = schema.default()
    c.model.size, c.model.embed_dim = "S/14", 32
    c.model.image.update(width=64, depth=2, mlp_dim=128, num_heads=4)
    c.model.text.update(width=48, depth=2, mlp_dim=96, num_heads=4, vocab_size=1_000)
    settings, mesh = Settings(c), sharding.make_mesh()
    batch = {
        "image": jax.ShapeDtypeStruct((8, 112, 112, 3), np.uint8),
        "tokens": jax.ShapeDtypeStruct((8, 16), np.int32),
    }
    model = models.build(settings.model)
    spec = state.make_spec(model, optax.adam(1e-3), batch, mesh, settings.sharding)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    start = checkpoint.first_state(
        checkpoints,
        spec,
        seed=0,
        init=str(GOLDEN / "clipa_checkpoint.npz"),
        edits=("image_positions", "text_positions"),
        open_weights=open_weights,
    )
    checkpoints.close()
    assert int(start.state.step) == 0
    assert start.lines[1:] == ["txt/pos_embedding: (1, 8, 48) -> (1, 16, 48)"]
    with np.load(GOLDEN / "clipa_forward.npz", allow_pickle=False) as recorded:
        with jax.default_matmul_precision("highest"):
            zimg, ztxt, _ = model.apply(
                {"params": start.state.params}, recorded["image2"], recorded["tokens2"]
            )
        np.testing.assert_allclose(zimg, recorded["zimg2"], atol=2e-5)
        np.testing.assert_allclose(ztxt, recorded["ztxt2"], atol=2e-5)
