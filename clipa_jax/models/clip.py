"""The two towers together: unit-length embeddings and the temperature between them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clipa_jax.models.text import TextTransformer
from clipa_jax.models.vit import ViT


class CLIP(nn.Module):
    """Two towers with a shared embedding. B batch, R pixels a side, L tokens, E embedding.

    Parameters are `img/...`, `txt/...` and `t` (1,), the log of the inverse temperature; with
    a bias, which the sigmoid loss needs, also `b` (1,).
    """

    img: ViT
    txt: TextTransformer
    temperature_init: float  # the inverse temperature at the start, 1 / 0.07 in CLIP
    temperature_max: float | None  # cap of the inverse temperature; None for no cap
    mean: tuple[float, float, float]  # of pixels between 0 and 1
    std: tuple[float, float, float]
    bias_init: float | None = None  # of the logits at the start; None: there is no bias

    def setup(self):
        self.t = self.param("t", nn.initializers.constant(jnp.log(self.temperature_init)), (1,))
        if self.bias_init is not None:
            self.b = self.param("b", nn.initializers.constant(self.bias_init), (1,))

    def __call__(
        self, image_BRRC: jax.Array, tokens_BL: jax.Array, keep_BK: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(image embeddings (B, E), text embeddings (B, E), inverse temperature ())."""
        return self.encode_image(image_BRRC, keep_BK), self.encode_text(tokens_BL), self.scale()

    def encode_image(self, image_BRRC: jax.Array, keep_BK: jax.Array | None = None) -> jax.Array:
        """(B, E) float32 of unit length.

        Takes uint8 (B, R, R, 3), normalized here, or floats, already normalized; and int32 (B, K),
        the patches that the tower sees, None for all.
        """
        if image_BRRC.dtype == jnp.uint8:
            image_BRRC = self.normalize(image_BRRC)
        return unit_length(self.img(image_BRRC, keep_BK))

    def encode_text(self, tokens_BL: jax.Array) -> jax.Array:
        """(B, E) float32 of unit length from int32 (B, L)."""
        return unit_length(self.txt(tokens_BL))

    def normalize(self, image_BRRC: jax.Array) -> jax.Array:
        """uint8 pixels to zero mean and unit variance by `mean` and `std`, float32."""
        mean = jnp.asarray(self.mean, jnp.float32) * 255
        std = jnp.asarray(self.std, jnp.float32) * 255
        return (image_BRRC.astype(jnp.float32) - mean) / std

    def scale(self) -> jax.Array:
        """The inverse temperature exp(t), capped; a scalar."""
        return inverse_temperature(self.t, self.temperature_max)

    def scalars(self) -> tuple[jax.Array, jax.Array | None]:
        """Inverse temperature () and bias () or None: logits = scale * similarity + bias."""
        bias = None if self.bias_init is None else self.b.astype(jnp.float32).reshape(())
        return self.scale(), bias


def inverse_temperature(t: jax.Array, maximum: float | None) -> jax.Array:
    """exp(t) as a scalar, at most `maximum`."""
    scale = jnp.exp(t.astype(jnp.float32)).reshape(())
    return scale if maximum is None else jnp.minimum(scale, maximum)


def unit_length(z_BE: jax.Array) -> jax.Array:
    """Divides each row by its length, in float32; the epsilon is the released code's."""
    z_BE = z_BE.astype(jnp.float32)
    return z_BE / (jnp.linalg.norm(z_BE, axis=1, keepdims=True) + 1e-8)
