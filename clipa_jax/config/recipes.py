"""Parts of config files: the defaults of a CLIPA stage, other config files, schedules.

The numbers of the published stages are in `configs/model_*/`, those of the demo in `configs/demo/`.
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from clipa_jax.config import bundled, evals, schema

CONFIGS = bundled.ROOT / "configs"
LAION_400M = 407_332_084  # samples in an epoch of CLIPA-v1, by its data.py
# Ops on the pictures in evaluation.
SQUASH = "decode|resize({res})"  # straight to a square
CROP = "decode|resize_small({res})|central_crop({res})"  # the short side, then the center


def stage(name: str, after: str = "") -> ConfigDict:
    """A stage with what all CLIPA recipes share; the config file sets the rest.

    It starts from the weights of the stage `after`; "" for the first.
    """
    c = follow(schema.default(), name, after)
    c.model.dtype = "bfloat16"
    c.input.preprocess = augmentation(jitter=0.4)
    c.input.preprocess_eval = SQUASH
    c.eval_percent = 20.0
    c.evals = evals.published()
    return c


def follow(
    c: ConfigDict, name: str, after: str, text_positions: str = "text_positions"
) -> ConfigDict:
    """Names a stage and the one it starts from; positions are resized to its own grid.

    `text_positions` is the edit for those of texts, see `models/surgery.py`.
    """
    c.name, c.after = name, after
    c.surgery = ("image_positions", text_positions) if after else ()
    return c


def as_weights(c: ConfigDict) -> None:
    """Leaves open what follows from the weights in `init`: the model and the input of its towers.

    `training/derive.py` fills it in.
    """
    towers = {"image": {"remat": c.model.image.remat}, "text": {"remat": c.model.text.remat}}
    kept = {key: c.model[key] for key in ("dtype", "attention", "layers", "unroll")}
    c.model = schema.unset(c.model)
    c.model.update(kept | towers)
    c.input.update(schema.evaluation().input)


def augmentation(jitter: float) -> str:
    """The ops on training samples; color jitter of a strength, with grayscale, unless it is 0."""
    color = f"jitter({jitter}, p=0.8, gray=0.2)|" if jitter else ""
    return (
        f"decode|inception_crop({{res}}, area_min=40)|{color}choose_caption"
        "|tokenize({text_len}, vocab={vocab!r}, reduction={reduction!r})|hash_caption"
    )


def recompute(c: ConfigDict, image: str, text: str) -> None:
    """Scans the layers, so that they compile as one, and sets what each tower recomputes.

    The backward pass of a tower recomputes by `remat`, see `schema.tower`.
    """
    c.model.layers = "scanned"
    c.model.image.remat, c.model.text.remat = image, text


def packed_on_tpu(c: ConfigDict) -> None:
    """Attention by the packed kernels, and parameters split over all chips.

    The option keeps the TPU compiler from turning products with split parameters into rings of
    small products, as it does for small matrices (docs/measurements/plans.md).
    """
    c.model.attention, c.sharding.preset = "packed", "fsdp"
    c.compiler_options = "xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000"


def load(name: str, variant: str = "") -> ConfigDict:
    """The config of a file below `configs/`, as `model_h/pretrain`, or of the path of a `.py` file.

    Raises `ValueError` if there is no such file or named variant.
    """
    file = Path(name) if name.endswith(".py") else CONFIGS / f"{name}.py"
    if not file.is_file():
        raise ValueError(f"no config file {file}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()


def schedule(*names: str, variant: str = "") -> ConfigDict:
    """The stages of several config files, in order, as one run; see `schema.schedule`."""
    configs = [load(name, variant) for name in names]
    return schema.schedule({c.name: c for c in configs})


def check_variant(variant: str, *legal: str) -> None:
    """Raises `ValueError` unless `variant` is "" or one of the legal names."""
    if variant and variant not in legal:
        hint = "; values are set by flags, as --config.input.res=70" if "=" in variant else ""
        raise ValueError(f"unknown variant {variant!r}; legal: {', '.join(legal)}{hint}")
