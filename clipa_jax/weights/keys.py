"""The keys of open_clip_config.json: which we read, at which values, and which do not matter.

As in open_clip 3.3.0: its `CLIP`, `CLIPVisionCfg`, `CLIPTextCfg` and `PreprocessCfg`.
"""

import math
from collections.abc import Mapping
from typing import Any

from clipa_jax.errors import CheckpointError, nearest

Json = dict[str, Any]

# open_clip's normalisation where a file does not give one (OpenAI's), and its other defaults.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
MODEL: Json = {
    "embed_dim": 512,
    "quick_gelu": False,
    "init_logit_scale": math.log(1 / 0.07),
    "init_logit_bias": None,
}
VISION: Json = {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
    "image_size": 224,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",  # either is a stored table
    "final_ln_after_pool": False,
    "pool_type": "tok",
    "act_kwargs": None,
    "norm_kwargs": None,
}
TEXT: Json = {
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
}
PREPROCESS: Json = {
    "size": None,
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
DEFAULTS = {"model": MODEL, "vision": VISION, "text": TEXT, "preprocess": PREPROCESS}
# Keys that our model can only have at these values.
ONLY: dict[str, tuple[Any, ...]] = {
    "multimodal_cfg": (None,),
    "ls_init_value": (None,),
    "attentional_pool": (False,),
    "output_tokens": (False,),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
    "timm_model_name": (None, ""),
    "hf_model_name": (None, ""),
    "embed_cls": (False,),
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "mode": ("RGB",),
}
# Keys without influence on the embeddings of the models that are left.
IGNORED = {
    "model": ("custom_text", "nonscalar_logit_scale"),
    "vision": ("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_"),
    "text": ("pad_id", "eos_id", "hf_model_", "hf_proj_", "hf_pooler_", "final_ln_after_pool"),
    "preprocess": ("fill_color",),
}


def read(section: str, given: Mapping[str, Any]) -> Json:
    """The values of a section, with open_clip's defaults for those that are not given.

    Args:
      section: "model", "vision", "text" or "preprocess".
      given: keys and values.

    Raises:
      CheckpointError: a key that is neither known nor harmless, or a value that our model does
        not support; names it.
    """
    defaults = DEFAULTS[section]
    values = dict(defaults)
    for key, value in given.items():
        if key in defaults:
            values[key] = _checked(f"{section}_cfg.{key}", value, defaults[key])
        elif key in ONLY:
            if value not in ONLY[key]:
                raise CheckpointError(f"open_clip's {section}_cfg.{key}={value!r} is not supported")
        elif not key.startswith(IGNORED[section]):
            hint = nearest(key, defaults)
            raise CheckpointError(f"open_clip's {section}_cfg.{key} is not supported ({hint})")
    return values


def _checked(key: str, value: Any, default: Any) -> Any:
    """The value, or the default for null; numbers, or lists of them, where numbers belong."""
    if value is None:
        return default
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if number and not isinstance(value, int | float | list | tuple):
        raise CheckpointError(f"{key}={value!r} is not supported: expected a number")
    return value
