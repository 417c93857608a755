"""Sizes of both towers, in one table.

Sources: CLIPA-v2 (arXiv 2306.15658) table 1 and the released configs; `mini` is the
size of the bundled demo, `nano` and `micro` are below it in docs/inverse_scaling.md; Ti has the
image tower of ViT-Ti (DeiT) and a third of its layers for text.
"""

import re
from dataclasses import dataclass

from clipa_jax.errors import ConfigError, unknown


@dataclass(frozen=True)
class Tower:
    """Width, layers, hidden width of the MLP and attention heads of one transformer."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int


@dataclass(frozen=True)
class Size:
    """The two towers that go together and the width of their shared embedding."""

    image: Tower
    text: Tower
    embed_dim: int


SIZES = {
    "nano": Size(Tower(32, 2, 128, 1), Tower(32, 1, 128, 1), 64),
    "micro": Size(Tower(64, 3, 256, 2), Tower(64, 1, 256, 2), 96),
    "mini": Size(Tower(96, 4, 384, 3), Tower(96, 1, 384, 3), 128),
    "Ti": Size(Tower(192, 12, 768, 3), Tower(192, 4, 768, 3), 192),
    "S": Size(Tower(384, 12, 1536, 6), Tower(384, 12, 1536, 6), 384),
    "B": Size(Tower(768, 12, 3072, 12), Tower(512, 12, 2048, 8), 512),
    "L": Size(Tower(1024, 24, 4096, 16), Tower(768, 12, 3072, 12), 768),
    "H": Size(Tower(1280, 32, 5120, 16), Tower(1024, 24, 4096, 16), 1024),
    "G": Size(Tower(1664, 48, 8192, 16), Tower(1280, 32, 5120, 20), 1280),
}


def parse(name: str) -> tuple[Size, int]:
    """`H/14` -> (sizes of the H towers, patch 14)."""
    size, slash, patch = name.partition("/")
    meant = re.fullmatch(r"(?:ViT-)?([a-z]+)[-_ ]?(\d+)", name, re.IGNORECASE)
    if meant and (known := {key.lower(): key for key in SIZES}.get(meant[1].lower())):
        raise ConfigError(f"unknown model size {name!r}; nearest: {known}/{meant[2]}")
    if size not in SIZES:
        raise ConfigError(unknown("model size", size, SIZES))
    if not slash or not patch.isdigit() or int(patch) < 1:
        raise ConfigError(f"model size {name!r} lacks the patch size; write for example {size}/14")
    return SIZES[size], int(patch)
