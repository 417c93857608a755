"""The model's own arithmetic, from its sizes alone.

These FLOPs are two for each multiply-add of the matrix products: projections, attention, MLPs,
patch embedding, heads and the contrastive logits; not norms, softmax, activations, gathers and
the optimizer. A training step counts three forward passes: one forward, and backward one product
for the gradient of each factor. Recomputation (rematerialization, micro-batches) does not count;
`traced` includes it.

T tokens, D width, M hidden width of the MLP, E embedding.
"""

from dataclasses import dataclass

from clipa_jax.models import CLIP
from clipa_jax.models.layers import TowerConfig
from clipa_jax.models.vit import ImageConfig

TRAINING = 3  # forward passes in a training step


@dataclass(frozen=True)
class Forward:
    """FLOPs of the forward pass of one sample."""

    image: float
    text: float
    loss: float  # its row of the (B, B) logits

    @property
    def total(self) -> float:
        return self.image + self.text + self.loss

    @property
    def training(self) -> float:
        """Forward and backward, without recomputation."""
        return TRAINING * self.total


def forward(model: CLIP, *, res: int, image_tokens: int, text_tokens: int, batch: int) -> Forward:
    """FLOPs of one sample of `res` pixels a side; `image_tokens` are those left by a mask.

    The batch is the global one, for the logits of the loss.
    """
    return Forward(
        image=_image(model.img.config, res, image_tokens),
        text=_tower(model.txt.config, text_tokens),
        loss=2.0 * batch * model.img.config.embed_dim,
    )


def layer(tokens: int, width: int, mlp_dim: int) -> float:
    """One transformer layer: four projections, scores, weighted values, two dense layers."""
    return 8.0 * tokens * width**2 + 4.0 * tokens**2 * width + 4.0 * tokens * width * mlp_dim


def _image(tower: ImageConfig, res: int, tokens: int) -> float:
    # Patches that a mask drops are embedded too.
    embedding = 2.0 * tower.patches(res) * tower.patch_size**2 * 3 * tower.width
    return embedding + _tower(tower, tokens)


def _tower(tower: TowerConfig, tokens: int) -> float:
    """Layers, pooling and head."""
    width = tower.width
    total = tower.depth * layer(tokens, width, tower.mlp_dim) + 2.0 * width * tower.embed_dim
    if tower.pool == "map":  # one query over all tokens, then an MLP
        total += 4.0 * (tokens + 1) * width**2 + 4.0 * tokens * width
        total += 4.0 * width * tower.mlp_dim
    return total
