"""One table of rules between our leaves and open_clip's state_dict, read in both directions.

A rule says which of our leaves become which tensor of theirs, and in which form. Where a
leaf has no rule, or a tensor, the conversion stops. Everything is numpy.

Shapes: W width, H heads, K width of a head, M hidden width, E embedding, N positions.
open_clip's `Linear` layers hold (out, in); the two projections to the embedding, which are
no layers there, hold (in, out) as ours do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.errors import CheckpointError

Arrays = Mapping[str, np.ndarray]
TOWERS = ("img", "txt")
_THEIR_BLOCKS = {"img": "visual.transformer.resblocks", "txt": "transformer.resblocks"}
# Buffers of older files, which say what the config says: the causal mask and three sizes.
_BUFFERS = ("attn_mask", "input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class Form:
    """How some of our arrays are laid out in one of theirs.

    Attributes:
      export: our arrays -> theirs.
      restore: (theirs, attention heads of the tower) -> our arrays; the exact inverse.
    """

    export: Callable[[Sequence[np.ndarray]], np.ndarray]
    restore: Callable[[np.ndarray, int], Sequence[np.ndarray]]


def _one(
    export: Callable[[np.ndarray], np.ndarray], restore: Callable[[np.ndarray], np.ndarray]
) -> Form:
    return Form(lambda ours: export(ours[0]), lambda theirs, _: [restore(theirs)])


def _export_heads(kernels: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([kernel.reshape(kernel.shape[0], -1).T for kernel in kernels])


def _restore_heads(theirs: np.ndarray, heads: int) -> list[np.ndarray]:
    width = theirs.shape[1]
    return [part.T.reshape(width, heads, -1) for part in np.split(theirs, 3)]


SAME = _one(lambda x: x, lambda x: x)
DENSE = _one(np.transpose, np.transpose)
# (height, width, in, out) <-> (out, in, height, width)
PATCHES = _one(lambda x: x.transpose(3, 2, 0, 1), lambda x: x.transpose(2, 3, 1, 0))
CLASS = _one(lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, -1))  # (1, 1, W) <-> (W,)
POSITIONS = _one(lambda x: x[0], lambda x: x[None])  # (1, N, W) <-> (N, W)
SCALAR = _one(lambda x: x.reshape(()), lambda x: x.reshape(1))  # (1,) <-> ()
HEADS = Form(_export_heads, _restore_heads)  # three (W, H, K) <-> (3 W, W)
HEADS_BIAS = Form(  # three (H, K) <-> (3 W,)
    lambda ours: np.concatenate([bias.reshape(-1) for bias in ours]),
    lambda theirs, heads: [part.reshape(heads, -1) for part in np.split(theirs, 3)],
)
HEADS_OUT = Form(  # (H, K, W) <-> (W, W)
    lambda ours: ours[0].reshape(-1, ours[0].shape[-1]).T,
    lambda theirs, heads: [theirs.T.reshape(heads, -1, theirs.shape[0])],
)

_ATTENTION = "MultiHeadDotProductAttention_0"
# Of a layer: ours below img|txt/Transformer/encoderblock_i, theirs below resblocks.i.
LAYER: tuple[tuple[tuple[str, ...], str, Form], ...] = (
    (("LayerNorm_0/scale",), "ln_1.weight", SAME),
    (("LayerNorm_0/bias",), "ln_1.bias", SAME),
    (
        tuple(f"{_ATTENTION}/{part}/kernel" for part in ("query", "key", "value")),
        "attn.in_proj_weight",
        HEADS,
    ),
    (
        tuple(f"{_ATTENTION}/{part}/bias" for part in ("query", "key", "value")),
        "attn.in_proj_bias",
        HEADS_BIAS,
    ),
    ((f"{_ATTENTION}/out/kernel",), "attn.out_proj.weight", HEADS_OUT),
    ((f"{_ATTENTION}/out/bias",), "attn.out_proj.bias", SAME),
    (("LayerNorm_1/scale",), "ln_2.weight", SAME),
    (("LayerNorm_1/bias",), "ln_2.bias", SAME),
    (("MlpBlock_0/Dense_0/kernel",), "mlp.c_fc.weight", DENSE),
    (("MlpBlock_0/Dense_0/bias",), "mlp.c_fc.bias", SAME),
    (("MlpBlock_0/Dense_1/kernel",), "mlp.c_proj.weight", DENSE),
    (("MlpBlock_0/Dense_1/bias",), "mlp.c_proj.bias", SAME),
)
REST: tuple[tuple[str, str, Form], ...] = (
    ("img/cls", "visual.class_embedding", CLASS),
    ("img/pos_embedding", "visual.positional_embedding", POSITIONS),
    ("img/embedding/kernel", "visual.conv1.weight", PATCHES),
    ("img/pre_norm/scale", "visual.ln_pre.weight", SAME),
    ("img/pre_norm/bias", "visual.ln_pre.bias", SAME),
    ("img/encoder_norm/scale", "visual.ln_post.weight", SAME),
    ("img/encoder_norm/bias", "visual.ln_post.bias", SAME),
    ("img/head/kernel", "visual.proj", SAME),
    ("txt/Embed_0/embedding", "token_embedding.weight", SAME),
    ("txt/pos_embedding", "positional_embedding", POSITIONS),
    ("txt/encoder_norm/scale", "ln_final.weight", SAME),
    ("txt/encoder_norm/bias", "ln_final.bias", SAME),
    ("txt/head/kernel", "text_projection", SAME),
    ("t", "logit_scale", SCALAR),
    ("b", "logit_bias", SCALAR),
)


@dataclass(frozen=True)
class Rule:
    """A row of the table for one layer of one tower, or for what stands outside the layers."""

    ours: tuple[str, ...]
    theirs: str
    form: Form
    tower: str


def rules(depth: Mapping[str, int]) -> list[Rule]:
    """The table for towers of a depth, by "img" and "txt"."""
    rows = [Rule((ours,), theirs, form, ours[:3]) for ours, theirs, form in REST]
    for tower in TOWERS:
        for i in range(depth[tower]):
            ours, theirs = f"{tower}/Transformer/encoderblock_{i}", f"{_THEIR_BLOCKS[tower]}.{i}"
            rows += [
                Rule(tuple(f"{ours}/{name}" for name in names), f"{theirs}.{key}", form, tower)
                for names, key, form in LAYER
            ]
    return rows


def to_open_clip(leaves: Arrays) -> dict[str, np.ndarray]:
    """Our weights as a state_dict of open_clip's `CLIP`.

    Args:
      leaves: by name, layers unrolled; image positions as an explicit table.

    Raises:
      CheckpointError: a leaf that open_clip has no place for.
    """
    left, state = dict(leaves), {}
    for rule in rules({tower: _depth(leaves, tower) for tower in TOWERS}):
        if all(name in left for name in rule.ours):
            theirs = rule.form.export([left.pop(name) for name in rule.ours])
            state[rule.theirs] = np.asarray(theirs, order="C")
    if left:
        raise CheckpointError(f"open_clip has no place for {_some(left)}")
    return state


def from_open_clip(state: Arrays, heads: Mapping[str, int]) -> dict[str, np.ndarray]:
    """A state_dict of open_clip as our weights, by name.

    Args:
      state: of a `CLIP`, or of a `CustomTextCLIP` with the standard text tower, whose text
        keys begin with `text.`.
      heads: attention heads by tower, "img" and "txt".

    Raises:
      CheckpointError: a tensor that our model has no place for, or one of another form.
    """
    left: dict[str, np.ndarray] = {}
    for key, tensor in state.items():
        name = key.removeprefix("module.").removeprefix("text.")
        if name in left:
            raise CheckpointError(f"the open_clip model has {name} twice, once as {key}")
        if name not in _BUFFERS:
            left[name] = tensor
    depth = {tower: _their_depth(left, tower) for tower in TOWERS}
    leaves: dict[str, np.ndarray] = {}
    for rule in rules(depth):
        if rule.theirs not in left:
            continue
        theirs = left.pop(rule.theirs)
        try:
            ours = rule.form.restore(theirs, heads.get(rule.tower, 1))
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"{rule.theirs} {theirs.shape} is not of the form that open_clip gives it ({error})"
            ) from None
        leaves |= dict(zip(rule.ours, ours, strict=True))
    if left:
        raise CheckpointError(f"this model has no place for {_some(left)} of the open_clip model")
    return leaves


def _depth(leaves: Arrays, tower: str) -> int:
    return _count(leaves, rf"{tower}/Transformer/encoderblock_(\d+)/.*")


def _their_depth(state: Arrays, tower: str) -> int:
    return _count(state, rf"{re.escape(_THEIR_BLOCKS[tower])}\.(\d+)\..*")


def _count(names: Arrays, pattern: str) -> int:
    found = (re.fullmatch(pattern, name) for name in names)
    return len({match.group(1) for match in found if match})


def _some(arrays: Arrays) -> str:
    names = sorted(arrays)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"{name} {tuple(arrays[name].shape)}" for name in names[:5]) + more
