"""Every config of the repository as text, to compare with the golden one."""

from pathlib import Path

from ml_collections import ConfigDict

from clipa_jax.config import durations, recipes
from clipa_jax.config.settings import Settings
from clipa_jax.models import masks, sizes
from clipa_jax.training import optim

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "golden" / "configs"
COMMAND = "python -m tests.config.update_golden"

# Variants of config files, and published runs that override the pixels, as `res70`.
VARIANTS = {
    "model_b/pretrain": ("i50_t16", "res64", "res160"),
    "model_b/finetune_224": ("i50_t16",),
    "model_g/pretrain": ("res70",),
    "model_h/pretrain": ("res70",),
    "model_h/finetune_224": ("short",),
    "model_l/pretrain": ("res70", "packed"),
    "model_l/finetune_224": ("packed",),
    "model_l/finetune_336": ("packed",),
    "model_l/v1_pretrain": ("i37_t8",),
    "model_l/v1_finetune_224": ("i37_t8",),
    "model_s/pretrain": ("res64", "res160"),
}


def files() -> list[str]:
    """The config files of training, as `model_h/pretrain`."""
    found = sorted((ROOT / "configs").glob("*/*.py"))
    elsewhere = ("eval", "finetune", "own")  # where these are tested; icons in test_sweeps.py
    found = [file for file in found if file.parent.name not in elsewhere and file.stem != "icons"]
    return [
        f"{file.parent.name}/{file.stem}" for file in found if "def get_config" in file.read_text()
    ]


def schedules() -> list[str]:
    """Those of them that chain stages."""
    return [name for name in files() if name.endswith("schedule")]


def stages() -> dict[str, tuple[str, str]]:
    """(file, argument) of each config of one stage, by the name of its golden text."""
    found = {}
    for name in files():
        if name in schedules():
            continue
        for arg in ("", *VARIANTS.get(name, ())):
            key = "_".join(filter(None, [name.replace("/", "_"), arg]))
            found[key] = (name, arg)
    return found


def get_config(name: str, arg: str = "") -> ConfigDict:
    """The config of `--config=configs/NAME.py:ARG`, or with `res70` of `--config.input.res=70`."""
    if not arg.startswith("res"):
        return recipes.load(name, arg)
    config = recipes.load(name)
    config.input.res = int(arg.removeprefix("res"))
    return config


def text(config: ConfigDict) -> str:
    """A stage's config, one key a line, after what follows from it."""
    return f"{summary(config)}\n{dump(config)}"


def durations_in_steps(config: ConfigDict) -> durations.Durations:
    """Steps of the stage; its length does not depend on the data."""
    size = config.input.batch_size
    return durations.resolve(Settings(config), batch_size=size, num_examples=None)


def summary(config: ConfigDict) -> str:
    """What the numbers of a config come to, as comments."""
    steps = durations_in_steps(config)
    peak = optim.peak_lr(config.optim.lr_per_256, steps.batch_size)
    _, patch = sizes.parse(config.model.size)
    patches = (config.input.res // patch) ** 2
    kept = masks.kept_patches(config.mask.name, patches, config.mask.ratio)
    return (
        f"# {steps.total_examples:,} samples in {steps.total_steps:,} steps, "
        f"{steps.warmup_steps:,} of them warm-up\n"
        f"# peak learning rate {peak:.6g}\n"
        f"# {kept} of {patches} patches and {config.input.text_len} text tokens\n"
    )


def dump(config: ConfigDict, indent: str = "") -> str:
    """Keys in alphabetical order; tuples of several entries one entry a line."""
    lines = []
    for key in sorted(config):
        value = config[key]
        if isinstance(value, ConfigDict):
            lines.append(f"{indent}{key}:")
            lines += [dump(value, indent + "  ").rstrip("\n")] if value else []
        elif isinstance(value, tuple) and len(value) > 3:
            lines.append(f"{indent}{key}:")
            lines += [f"{indent}  - {entry!r}" for entry in value]
        else:
            lines.append(f"{indent}{key}: {value!r}")
    return "\n".join(lines) + "\n"
