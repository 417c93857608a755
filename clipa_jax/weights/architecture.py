"""Architectures and preprocessing: a config of ours <-> open_clip_config.json.

Both directions refuse what the other side cannot compute, and name it.
"""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.data import pipeline
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.models.layers import TowerConfig
from clipa_jax.preprocess import registry, vocab
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
# Keys of the text tower besides the name; without both open_clip takes its own tokenizer.
TOKENIZER: Json = {"tokenizer_kwargs": {"strip_sep_token": True}}
INTERPOLATIONS = ("bilinear", "bicubic")
GRID = "image_grid"  # key of the config of a model for non-square pictures


def to_open_clip(model: CLIP, inputs: Any, tokenizer: str) -> Json:
    """The content of open_clip_config.json for a model and the `input` section of its config.

    `tokenizer` is a name, "" for CLIP's own. Raises `CheckpointError`, which names it, if open_clip
    has no such tower or preprocessing.
    """
    img, txt = model.img.config, model.txt.config
    keys.check("model.image.pool", img.pool, IMAGE_POOLS, "open_clip")
    keys.check("model.text.pool", txt.pool, TEXT_POOLS, "open_clip")
    if "quick" in (img.gelu, txt.gelu):  # a key for both towers
        keys.check("model.*.gelu", (img.gelu, txt.gelu), [("quick", "quick")], "open_clip")
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
                **({"hf_tokenizer_name": tokenizer} | TOKENIZER if tokenizer else {}),
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
    ratio = tower.mlp_dim / tower.width
    if int(tower.width * ratio) != tower.mlp_dim:  # as open_clip computes it
        ratio = math.nextafter(ratio, math.inf)
    return {
        "layers": tower.depth,
        "width": tower.width,
        "mlp_ratio": ratio,
        "norm_kwargs": {"eps": tower.norm_eps},
        **GELUS[tower.gelu],
    }


def _resizing(inputs: Any) -> Json:
    spec = pipeline.fill(inputs.preprocess_eval, inputs)
    calls = registry.parse(spec)
    modes = {ops: mode for mode, ops in RESIZE_OPS.items()}
    mode = modes.get(tuple(call.name for call in calls))
    arguments = [
        dict(zip(("size", "method"), call.args, strict=False)) | call.kwargs for call in calls[1:]
    ]
    if mode is None or any(values["size"] != inputs.res for values in arguments):
        legal = " or ".join("|".join(ops) for ops in RESIZE_OPS.values())
        raise CheckpointError(
            f"input.preprocess_eval={spec!r} has no counterpart in open_clip; it must be "
            f"{legal} to {inputs.res} pixels"
        )
    return {"interpolation": arguments[0].get("method", "bilinear"), "resize_mode": mode}


def from_open_clip(content: Json, wordpieces: str = "", merges: str = "") -> ConfigDict:
    """A config of ours for the content of open_clip_config.json: the sections `model` and `input`.

    `wordpieces` and `merges` are paths of the vocabulary, "" for none. Raises `CheckpointError`,
    which names the key and the value, where our model does not support them.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("model_cfg"), Mapping):
        raise CheckpointError("not an open_clip_config.json: it has no model_cfg")
    model = dict(content["model_cfg"])
    vision, text = model.pop("vision_cfg", {}), model.pop("text_cfg", {})
    sides, grid = _sides(vision)
    vision, text = keys.read("vision_cfg", {**vision, **sides}), keys.read("text_cfg", text)
    model = keys.read("model_cfg", model)
    preprocess = keys.read("preprocess_cfg", content.get("preprocess_cfg") or {})
    res, patch = vision["image_size"], vision["patch_size"]
    if res % patch:
        raise CheckpointError(f"image_size {res} does not divide into patches of {patch}")
    return ConfigDict(
        {
            "name": "open_clip",
            **({GRID: grid} if grid else {}),
            "model": {
                "size": f"B/{patch}",  # every size of the row is given below
                "embed_dim": model["embed_dim"],
                "temperature_init": math.exp(model["init_logit_scale"]),
                "temperature_max": None,
                "bias_init": model["init_logit_bias"],
                "mean": _color(preprocess["mean"]),
                "std": _color(preprocess["std"]),
                "dtype": "float32",
                "attention": "auto",
                "layers": "unrolled",
                "unroll": 1,
                "image": {
                    **_from_tower("vision_cfg", vision, model["quick_gelu"]),
                    "num_heads": vision["width"] // vision["head_width"],
                    "posemb": "learned",
                    "pre_norm": not vision["no_ln_pre"],
                    "pool": _image_pool(vision),
                },
                "text": {
                    **_from_tower("text_cfg", text, model["quick_gelu"]),
                    "num_heads": text["heads"],
                    "vocab_size": text["vocab_size"],
                    "pool": keys.check("text_cfg.pool_type", text["pool_type"], TEXT_POOLS),
                    "causal": not text["no_causal_mask"],
                },
            },
            "input": {
                "res": res,
                "text_len": text["context_length"],
                "vocab": _vocab(text, wordpieces, merges),
                "clean": "open_clip",
                "preprocess_eval": _preprocess(preprocess),
            },
        }
    )


def _sides(vision: Mapping[str, Any]) -> tuple[Json, tuple[int, int] | None]:
    """Image and patch size of squares that may be given as pairs, and (rows, columns) of patches.

    The latter only if they form no square: weights for such pictures fit none of our models until
    their positions are resized.
    """
    sides: Json = {key: vision[key] for key in ("image_size", "patch_size") if key in vision}
    for key, value in sides.items():
        if isinstance(value, list | tuple) and len(set(value)) == 1:
            sides[key] = value[0]
    size, patch = sides.get("image_size"), sides.get("patch_size")
    if not isinstance(size, list | tuple) or len(size) != 2 or not isinstance(patch, int):
        return sides, None
    if any(side % patch for side in size):
        return sides, None
    grid = (size[0] // patch, size[1] // patch)
    return sides | {"image_size": round((grid[0] * grid[1]) ** 0.5) * patch}, grid


def _color(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3


def _from_tower(section: str, tower: Json, quick: bool) -> Json:
    norm = {"eps": 1e-5} | (tower["norm_kwargs"] or {})  # torch's default
    keys.check(f"{section}.norm_kwargs", set(norm), [{"eps"}])
    gelus = {"none": "quick"} if quick else {"none": "exact", "tanh": "tanh"}
    activation = {"approximate": "none"} | (tower["act_kwargs"] or {})
    keys.check(f"{section}.act_kwargs", activation, [{"approximate": name} for name in gelus])
    return {
        "width": tower["width"],
        "depth": tower["layers"],
        "mlp_dim": int(tower["width"] * tower["mlp_ratio"]),
        "gelu": gelus[activation["approximate"]],
        "norm_eps": norm["eps"],
        "remat": "none",
    }


def _image_pool(vision: Json) -> str:
    pools = {("tok", False): "tok", ("tok", True): "tok", ("avg", True): "gap"}
    pool = vision["pool_type"], vision["final_ln_after_pool"]
    return pools[keys.check("vision_cfg.pool_type, final_ln_after_pool", pool, pools)]


def _vocab(text: Json, wordpieces: str, merges: str) -> str:
    """Our vocabulary for a tokenizer of theirs; "" where we do not have that tokenizer."""
    name = (text["hf_tokenizer_name"] or "").removeprefix("google-bert/")
    if not (name or text["tokenizer_mode"] or text["tokenizer_kwargs"]):
        return merges or vocab.CLIP
    if text["tokenizer_mode"] or text["tokenizer_kwargs"] != TOKENIZER["tokenizer_kwargs"]:
        return ""
    return wordpieces or (name if name == "bert-base-uncased" else "")


def _preprocess(preprocess: Json) -> str:
    mode = keys.check("preprocess_cfg.resize_mode", preprocess["resize_mode"], RESIZE_OPS)
    method = preprocess["interpolation"]
    keys.check("preprocess_cfg.interpolation", method, INTERPOLATIONS)
    option = "" if method == "bilinear" else f", method={method!r}"
    decode, resize, *crop = RESIZE_OPS[mode]
    return "|".join([decode, f"{resize}({{res}}{option})", *(f"{op}({{res}})" for op in crop)])
