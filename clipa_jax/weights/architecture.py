"""Architectures and preprocessing: a config of ours <-> open_clip_config.json.

What one side has and the other cannot compute is refused by its name, on the way out as on
the way in.
"""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.data import pipeline
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.models.layers import TowerConfig
from clipa_jax.preprocess import registry
from clipa_jax.weights import keys
from clipa_jax.weights.keys import Json

IMAGE_POOLS: dict[str, Json] = {
    "tok": {"pool_type": "tok"},
    "gap": {"pool_type": "avg", "final_ln_after_pool": True},
}
TEXT_POOLS = ("last", "first", "argmax")
GELUS: dict[str, Json] = {"exact": {}, "tanh": {"act_kwargs": {"approximate": "tanh"}}, "quick": {}}
RESIZE_OPS = {
    "squash": ("decode", "resize"),
    "shortest": ("decode", "resize_small", "central_crop"),
}
INTERPOLATIONS = ("bilinear", "bicubic")


def to_open_clip(model: CLIP, inputs: Any, tokenizer: str) -> Json:
    """The content of open_clip_config.json for a model of ours.

    Args:
      model: its towers.
      inputs: the `input` section of its config.
      tokenizer: name of the tokenizer.

    Raises:
      CheckpointError: open_clip has no such tower or preprocessing; says which.
    """
    img, txt = model.img.config, model.txt.config
    for name, pool, legal in (("image", img.pool, IMAGE_POOLS), ("text", txt.pool, TEXT_POOLS)):
        if pool not in legal:
            raise CheckpointError(
                f"open_clip has no {name} pooling like model.{name}.pool={pool!r}, only "
                f"{', '.join(legal)}; these weights cannot be exported"
            )
    if (img.gelu == "quick") != (txt.gelu == "quick"):
        raise CheckpointError(
            f"open_clip has the quick GELU in both towers or in none; this model has {img.gelu} in "
            f"the image tower and {txt.gelu} in the text tower"
        )
    return {
        "model_cfg": {
            "embed_dim": img.embed_dim,
            **({"quick_gelu": True} if img.gelu == "quick" else {}),
            **({} if model.bias_init is None else {"init_logit_bias": model.bias_init}),
            "vision_cfg": {
                "image_size": inputs.res,
                "patch_size": img.patch_size,
                "head_width": img.width // img.num_heads,
                "no_ln_pre": not img.pre_norm,
                **IMAGE_POOLS[img.pool],
                **_tower(img),
            },
            "text_cfg": {
                "context_length": inputs.text_len,
                "vocab_size": txt.vocab_size,
                "hf_tokenizer_name": tokenizer,
                "tokenizer_kwargs": {"strip_sep_token": True},
                "heads": txt.num_heads,
                "no_causal_mask": not txt.causal,
                "pool_type": txt.pool,
                **_tower(txt),
            },
        },
        "preprocess_cfg": {
            "size": inputs.res,
            "mean": list(model.mean),
            "std": list(model.std),
            **_resizing(inputs),
        },
    }


def _tower(tower: TowerConfig) -> Json:
    return {
        "layers": tower.depth,
        "width": tower.width,
        "mlp_ratio": _ratio(tower.width, tower.mlp_dim),
        "norm_kwargs": {"eps": tower.norm_eps},
        **GELUS[tower.gelu],
    }


def _ratio(width: int, mlp_dim: int) -> float:
    """The ratio that open_clip's int(width * ratio) turns into `mlp_dim`."""
    ratio = mlp_dim / width
    return ratio if int(width * ratio) == mlp_dim else math.nextafter(ratio, math.inf)


def _resizing(inputs: Any) -> Json:
    spec = pipeline.fill(inputs.preprocess_eval, inputs)
    calls = registry.parse(spec)
    modes = {ops: mode for mode, ops in RESIZE_OPS.items()}
    mode = modes.get(tuple(call.name for call in calls))
    sizes = {call.args[:1] or (call.kwargs.get("size"),) for call in calls[1:]}
    if mode is None or sizes != {(inputs.res,)}:
        legal = " or ".join("|".join(ops) for ops in RESIZE_OPS.values())
        raise CheckpointError(
            f"input.preprocess_eval={spec!r} has no counterpart in open_clip; it must be "
            f"{legal} to {inputs.res} pixels"
        )
    _, *rest = calls[1].args or (inputs.res,)
    method = rest[0] if rest else calls[1].kwargs.get("method", "bilinear")
    return {"interpolation": method, "resize_mode": mode}


def from_open_clip(content: Json, vocabulary: str) -> ConfigDict:
    """A config of ours for an open_clip model: the sections `model` and `input`.

    Args:
      content: of open_clip_config.json.
      vocabulary: path of its WordPiece vocabulary, where its files have one; else "".

    Raises:
      CheckpointError: our model does not support it; names the key and the value.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("model_cfg"), Mapping):
        raise CheckpointError("not an open_clip_config.json: it has no model_cfg")
    model = dict(content["model_cfg"])
    image = keys.read("vision", model.pop("vision_cfg", {}))
    text = keys.read("text", model.pop("text_cfg", {}))
    model = keys.read("model", model)
    preprocess = keys.read("preprocess", content.get("preprocess_cfg") or {})
    res, patch = _side(image, "image_size"), _side(image, "patch_size")
    if res % patch:
        raise CheckpointError(f"image_size {res} does not divide into patches of {patch}")
    if not isinstance(image["layers"], int):
        raise CheckpointError("vision_cfg.layers is a list: ResNet towers are not supported")
    return ConfigDict(
        {
            "name": "open_clip",
            "model": {
                "size": f"B/{patch}",  # every size of the row is given below
                "embed_dim": model["embed_dim"],
                "temperature_init": math.exp(model["init_logit_scale"]),
                "temperature_max": None,
                "bias_init": model["init_logit_bias"],
                "mean": _colour(preprocess["mean"]),
                "std": _colour(preprocess["std"]),
                "dtype": "float32",
                "attention": "auto",
                "layers": "unrolled",
                "image": {
                    **_from_tower("vision", image, model["quick_gelu"]),
                    "num_heads": image["width"] // image["head_width"],
                    "posemb": "learned",
                    "pre_norm": not image["no_ln_pre"],
                    "pool": _image_pool(image),
                },
                "text": {
                    **_from_tower("text", text, model["quick_gelu"]),
                    "num_heads": text["heads"],
                    "vocab_size": text["vocab_size"],
                    "pool": _text_pool(text),
                    "causal": not text["no_causal_mask"],
                },
            },
            "input": {
                "res": res,
                "text_len": text["context_length"],
                "vocab": _vocab(text, vocabulary),
                "preprocess_eval": _preprocess(preprocess),
            },
        }
    )


def _colour(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3


def _side(image: Json, key: str) -> int:
    value = image[key]
    sides = {*value} if isinstance(value, list | tuple) else {value}
    if len(sides) != 1:
        raise CheckpointError(f"vision_cfg.{key}={value}: only squares are supported")
    return int(sides.pop())


def _from_tower(section: str, tower: Json, quick: bool) -> Json:
    norm = dict(tower["norm_kwargs"] or {})
    eps = norm.pop("eps", 1e-5)  # torch's LayerNorm
    if norm:
        raise CheckpointError(f"{section}_cfg.norm_kwargs={norm} is not supported, only eps")
    return {
        "width": tower["width"],
        "depth": tower["layers"],
        "mlp_dim": int(tower["width"] * tower["mlp_ratio"]),
        "gelu": _gelu(section, tower["act_kwargs"] or {}, quick),
        "norm_eps": eps,
        "remat": "none",
    }


def _gelu(section: str, kwargs: Json, quick: bool) -> str:
    if quick and not kwargs:
        return "quick"
    kinds = {"none": "exact", "tanh": "tanh"}
    kind = kinds.get(kwargs.get("approximate", "none"))
    if quick or kind is None or set(kwargs) - {"approximate"}:
        raise CheckpointError(f"{section}_cfg.act_kwargs={kwargs} is not supported")
    return kind


def _image_pool(image: Json) -> str:
    pool, late = image["pool_type"], image["final_ln_after_pool"]
    if pool == "tok":  # one position: the norm may come before or after
        return "tok"
    if pool == "avg" and late:
        return "gap"
    raise CheckpointError(
        f"vision_cfg.pool_type={pool!r} with final_ln_after_pool={late} is not supported"
    )


def _text_pool(text: Json) -> str:
    if text["pool_type"] not in TEXT_POOLS:
        raise CheckpointError(f"text_cfg.pool_type={text['pool_type']!r} is not supported")
    return text["pool_type"]


def _vocab(text: Json, vocabulary: str) -> str:
    """Our vocabulary for a tokenizer of theirs, or "" where we do not have that tokenizer."""
    kwargs = text["tokenizer_kwargs"] or {}
    if text["tokenizer_mode"] or kwargs != {"strip_sep_token": True}:
        return ""
    name = (text["hf_tokenizer_name"] or "").removeprefix("google-bert/")
    return vocabulary or (name if name == "bert-base-uncased" else "")


def _preprocess(preprocess: Json) -> str:
    mode, method = preprocess["resize_mode"], preprocess["interpolation"]
    if mode not in RESIZE_OPS:
        raise CheckpointError(f"preprocess_cfg.resize_mode={mode!r} is not supported")
    if method not in INTERPOLATIONS:
        raise CheckpointError(f"preprocess_cfg.interpolation={method!r} is not supported")
    option = "" if method == "bilinear" else f", method={method!r}"
    decode, resize, *crop = RESIZE_OPS[mode]
    return "|".join([decode, f"{resize}({{res}}{option})", *(f"{op}({{res}})" for op in crop)])
