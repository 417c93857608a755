"""One table of rules between our parameters and open_clip's state_dict, read in both directions.

A parameter or a tensor without a rule stops the conversion. Everything is numpy.

Shapes: W width, H heads, K width of a head, N positions. open_clip's `Linear` layers hold
(out, in); its projections to the embedding are plain matrices (in, out), as ours are.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clipa_jax.errors import CheckpointError

Arrays = Mapping[str, np.ndarray]
BLOCKS = {  # ours and theirs, by tower
    "img": ("img/Transformer/encoderblock_", "visual.transformer.resblocks."),
    "txt": ("txt/Transformer/encoderblock_", "transformer.resblocks."),
}
# Buffers of older files, which repeat the config: the causal mask and three sizes.
_BUFFERS = ("attn_mask", "input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class Form:
    """The layout of one of our arrays in a tensor of theirs."""

    export: Callable[[np.ndarray], np.ndarray]  # ours -> theirs
    # (theirs, attention heads of the tower) -> ours; the exact inverse
    restore: Callable[[np.ndarray, int], np.ndarray]


SAME = Form(lambda x: x, lambda x, _: x)
DENSE = Form(np.transpose, lambda x, _: x.T)
# (height, width, in, out) <-> (out, in, height, width)
PATCHES = Form(lambda x: x.transpose(3, 2, 0, 1), lambda x, _: x.transpose(2, 3, 1, 0))
CLASS = Form(lambda x: x.reshape(-1), lambda x, _: x.reshape(1, 1, -1))  # (1, 1, W) <-> (W,)
POSEMB = Form(lambda x: x[0], lambda x, _: x[None])  # (1, N, W) <-> (N, W)
SCALAR = Form(lambda x: x.reshape(()), lambda x, _: x.reshape(1))  # (1,) <-> ()
HEADS = Form(  # (W, H, K) <-> (W, W)
    lambda x: x.reshape(x.shape[0], -1).T, lambda x, heads: x.T.reshape(x.shape[1], heads, -1)
)
HEADS_BIAS = Form(lambda x: x.reshape(-1), lambda x, heads: x.reshape(heads, -1))  # (H, K) <-> (W,)
HEADS_OUT = Form(  # (H, K, W) <-> (W, W)
    lambda x: x.reshape(-1, x.shape[-1]).T, lambda x, heads: x.T.reshape(heads, -1, x.shape[0])
)

# Parameters of a layer. "*" stands for query, key and value, which are one tensor in open_clip.
LAYER: tuple[tuple[str, str, Form], ...] = (
    ("LayerNorm_0/scale", "ln_1.weight", SAME),
    ("LayerNorm_0/bias", "ln_1.bias", SAME),
    ("MultiHeadDotProductAttention_0/*/kernel", "attn.in_proj_weight", HEADS),
    ("MultiHeadDotProductAttention_0/*/bias", "attn.in_proj_bias", HEADS_BIAS),
    ("MultiHeadDotProductAttention_0/out/kernel", "attn.out_proj.weight", HEADS_OUT),
    ("MultiHeadDotProductAttention_0/out/bias", "attn.out_proj.bias", SAME),
    ("LayerNorm_1/scale", "ln_2.weight", SAME),
    ("LayerNorm_1/bias", "ln_2.bias", SAME),
    ("MlpBlock_0/Dense_0/kernel", "mlp.c_fc.weight", DENSE),
    ("MlpBlock_0/Dense_0/bias", "mlp.c_fc.bias", SAME),
    ("MlpBlock_0/Dense_1/kernel", "mlp.c_proj.weight", DENSE),
    ("MlpBlock_0/Dense_1/bias", "mlp.c_proj.bias", SAME),
)
# All other parameters.
REST: tuple[tuple[str, str, Form], ...] = (
    ("img/cls", "visual.class_embedding", CLASS),
    ("img/pos_embedding", "visual.positional_embedding", POSEMB),
    ("img/embedding/kernel", "visual.conv1.weight", PATCHES),
    ("img/pre_norm/scale", "visual.ln_pre.weight", SAME),
    ("img/pre_norm/bias", "visual.ln_pre.bias", SAME),
    ("img/encoder_norm/scale", "visual.ln_post.weight", SAME),
    ("img/encoder_norm/bias", "visual.ln_post.bias", SAME),
    ("img/head/kernel", "visual.proj", SAME),
    ("txt/Embed_0/embedding", "token_embedding.weight", SAME),
    ("txt/pos_embedding", "positional_embedding", POSEMB),
    ("txt/encoder_norm/scale", "ln_final.weight", SAME),
    ("txt/encoder_norm/bias", "ln_final.bias", SAME),
    ("txt/head/kernel", "text_projection", SAME),
    ("t", "logit_scale", SCALAR),
    ("b", "logit_bias", SCALAR),
)


@dataclass(frozen=True)
class Rule:
    """The parameters `ours` of a tower are the parts, in order, of the tensor `theirs`."""

    ours: tuple[str, ...]
    theirs: str
    form: Form
    tower: str


def rules_for(names: Arrays) -> list[Rule]:
    """The rules for towers as deep as their layers among `names`, which are ours or theirs."""
    rules = [Rule((ours,), theirs, form, ours[:3]) for ours, theirs, form in REST]
    for tower, (ours, theirs) in BLOCKS.items():
        pattern = rf"(?:{re.escape(ours)}|{re.escape(theirs)})(\d+)\D.*"
        matches = (re.fullmatch(pattern, name) for name in names)
        for i in range(len({match.group(1) for match in matches if match})):
            for leaf, key, form in LAYER:
                parts = ("query", "key", "value") if "*" in leaf else ("",)
                leaves = tuple(f"{ours}{i}/{leaf.replace('*', part)}" for part in parts)
                rules.append(Rule(leaves, f"{theirs}{i}.{key}", form, tower))
    return rules


def to_open_clip(leaves: Arrays) -> dict[str, np.ndarray]:
    """Our weights, layers unrolled and image positions a table, as a state_dict of `CLIP`.

    Raises `CheckpointError` if open_clip has no place for a parameter.
    """
    left, state = dict(leaves), {}
    for rule in rules_for(leaves):
        if all(name in left for name in rule.ours):
            parts = [rule.form.export(left.pop(name)) for name in rule.ours]
            tensor = np.concatenate(parts) if len(parts) > 1 else parts[0]
            state[rule.theirs] = np.asarray(tensor, order="C")
    if left:
        raise CheckpointError(f"open_clip has no place for {_list(left)}")
    return state


def from_open_clip(state: Arrays, heads: Mapping[str, int]) -> dict[str, np.ndarray]:
    """A state_dict of open_clip as our weights, by name; `heads` of "img" and "txt".

    It is of a `CLIP`, or of a `CustomTextCLIP` with the standard text tower, whose text keys begin
    with `text.`. Raises `CheckpointError` if our model has no place for a tensor, or a tensor has
    another shape.
    """
    left: dict[str, np.ndarray] = {}
    for key, tensor in state.items():
        name = key.removeprefix("text.")
        if name in left:
            raise CheckpointError(f"the open_clip model has {name} twice, once as {key}")
        if name not in _BUFFERS:
            left[name] = tensor
    leaves: dict[str, np.ndarray] = {}
    for rule in rules_for(left):
        if rule.theirs not in left:
            continue
        tensor, heads_in_tower = left.pop(rule.theirs), heads.get(rule.tower, 1)
        try:
            parts = np.split(tensor, len(rule.ours)) if len(rule.ours) > 1 else [tensor]
            for name, part in zip(rule.ours, parts, strict=True):
                leaves[name] = rule.form.restore(part, heads_in_tower)
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"{rule.theirs} {tensor.shape} is not of the form that open_clip gives it ({error})"
            ) from None
    if left:
        raise CheckpointError(f"this model has no place for {_list(left)} of the open_clip model")
    return leaves


def _list(arrays: Arrays) -> str:
    names = sorted(arrays)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"{name} {tuple(arrays[name].shape)}" for name in names[:5]) + more
