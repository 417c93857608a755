"""The keys of open_clip_config.json: those with a counterpart here, and those to refuse or ignore.

As in open_clip 3.3.0: its `CLIP`, `CLIPVisionCfg`, `CLIPTextCfg` and `PreprocessCfg`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from clipa_jax.errors import CheckpointError, nearest

Json = dict[str, Any]

# open_clip's defaults, by section. Mean and standard deviation are OpenAI's.
DEFAULTS: dict[str, Json] = {
    "model_cfg": {
        "embed_dim": 512,
        "quick_gelu": False,
        "init_logit_scale": math.log(1 / 0.07),
        "init_logit_bias": None,
    },
    "vision_cfg": {
        "layers": 12,
        "width": 768,
        "head_width": 64,
        "mlp_ratio": 4.0,
        "patch_size": 16,
        "image_size": 224,
        "no_ln_pre": False,
        "pos_embed_type": "learnable",  # both values are a stored table
        "final_ln_after_pool": False,
        "pool_type": "tok",
        "act_kwargs": None,
        "norm_kwargs": None,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "hf_tokenizer_name": None,
        "tokenizer_mode": None,
        "tokenizer_kwargs": None,
        "width": 512,
        "heads": 8,
        "layers": 12,
        "mlp_ratio": 4.0,
        "no_causal_mask": False,
        "pool_type": "argmax",
        "act_kwargs": None,
        "norm_kwargs": None,
    },
    "preprocess_cfg": {
        "size": None,
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
# Keys that our model supports at these values only.
ONLY: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("multimodal_cfg", "ls_init_value"), (None,)),
    **dict.fromkeys(("attentional_pool", "output_tokens", "qk_norm", "embed_cls"), (False,)),
    **dict.fromkeys(("scaled_cosine_attn", "scale_heads", "scale_attn_inner"), (False,)),
    **dict.fromkeys(("scale_attn", "scale_fc", "proj_bias"), (False,)),
    "block_type": (None, "default"),
    "timm_model_name": (None, ""),
    "hf_model_name": (None, ""),
    "proj_type": ("linear",),
    "mode": ("RGB",),
}
# Prefixes of keys that do not change the embeddings of the supported models.
IGNORED = {
    "model_cfg": ("custom_text", "nonscalar_logit_scale"),
    "vision_cfg": ("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_"),
    "text_cfg": ("pad_id", "eos_id", "hf_model_", "hf_proj_", "hf_pooler_", "final_ln_after_pool"),
    "preprocess_cfg": ("fill_color",),
}


def read(section: str, given: Mapping[str, Any]) -> Json:
    """The values of a section of `DEFAULTS`, which stand for keys that are missing or null.

    Raises `CheckpointError`, which names it, for an unknown key or a value that our model does not
    support.
    """
    values = dict(DEFAULTS[section])
    for key, value in given.items():
        name = f"{section}.{key}"
        if key in values:
            values[key] = values[key] if value is None else value
            number = type(DEFAULTS[section][key]) in (int, float)
            if number and not isinstance(values[key], int | float):
                raise CheckpointError(f"{name}={value!r} is not supported, only a number")
        elif key in ONLY:
            check(name, value, ONLY[key])
        elif not key.startswith(IGNORED[section]):
            hint = nearest(key, values)
            raise CheckpointError(f"{name} of open_clip is not supported ({hint})")
    return values


def check(key: str, value: Any, supported: Iterable[Any], side: str = "this model") -> Any:
    """The value; raises `CheckpointError` unless one side of the conversion supports it."""
    if value not in tuple(supported):
        legal = ", ".join(map(str, supported))
        raise CheckpointError(f"{key}={value!r} is not supported by {side}, only {legal}")
    return value
