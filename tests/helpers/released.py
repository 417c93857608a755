"""The small model that the released code recorded its numbers with; see golden/README.md."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from clipa_jax.config import schema

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS, BATCH = 12, 32


def config(res: int = 84, text_len: int = 8) -> ConfigDict:
    """The recorded architecture and optimizer, as a config of ours."""
    c = schema.default()
    c.model.size = "S/14"
    c.model.embed_dim = 32
    c.model.temperature_max = None
    c.model.image.update(width=64, depth=2, mlp_dim=128, num_heads=4)
    c.model.text.update(width=48, depth=2, mlp_dim=96, num_heads=4, vocab_size=1_000)
    c.input.res = res
    c.input.text_len = text_len
    c.input.batch_size = BATCH
    c.input.vocab = ""
    c.input.preprocess_eval = "decode|resize({res})"
    c.total_steps = STEPS
    c.warmup_steps = 4
    c.optim.lr_per_256 = 2e-3 * 256 / BATCH
    return c


def arrays(name: str) -> dict[str, np.ndarray]:
    """The recorded `forward` or `train` arrays by name."""
    with np.load(GOLDEN / f"clipa_{name}.npz", allow_pickle=False) as file:
        return dict(file)


def weights() -> dict[str, np.ndarray]:
    """The recorded weights by name, without `params/`."""
    return {name.removeprefix("params/"): leaf for name, leaf in arrays("checkpoint").items()}
