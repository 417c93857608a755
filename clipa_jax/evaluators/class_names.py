"""Class names and prompt templates, from `assets/`, files or an installed package.

`assets/*.json` are made by tools/build_eval_tables.py from packages that contain them; each has its
provenance and licence. Other languages than English are read from an installed `clip_benchmark`.
"""

import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipa_jax.errors import ConfigError, DataError, MissingData, unknown
from clipa_jax.runtime import files

ASSETS = Path(__file__).parent / "assets"
ENGLISH = "en"
SLOT, PLACE = "{}", "{c}"  # stands for the class name: here, and in CLIP_benchmark
PACKAGE = "clip_benchmark"
IMAGENET = "imagenet1k"


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset, in the order of its labels."""

    names: tuple[str, ...]  # as in a prompt
    keys: tuple[str, ...] | None = None  # as in the data, such as WordNet ids; None if unknown


def classes(source: str | Sequence[str], language: str = ENGLISH) -> Classes:
    """The classes of a dataset, from a file, or as given.

    `source` has the names, also with commas between them; or is a known dataset, e.g.
    "imagenet1k", whose names are in `language`; or the path of a JSON file: a list of names, or an
    object with a list `classes` and perhaps another, `keys`. Raises `ConfigError` for an unknown
    dataset, `DataError` for a file that is not of this form.
    """
    if isinstance(source, str) and "," in source:
        source = [name.strip() for name in source.split(",")]
    if not isinstance(source, str):
        return Classes(strings(source, "class names"))
    if source.endswith(".json"):
        return _from_file(source)
    imagenet = asset("imagenet")
    subset = imagenet["subsets"].get(source)
    if source != IMAGENET and subset is None:
        known = named(language, "classes")
        if source not in known:
            options = [*known, *imagenet["subsets"]]
            raise ConfigError(unknown("class names", source, options))
        return Classes(known[source])
    babel = _babel(language)
    names = babel[0] if babel else named(language, "classes")[IMAGENET]
    numbers = babel[1] if babel else range(len(names))
    keys = [imagenet["wordnet_ids"][number] for number in numbers]
    pairs = [pair for pair in zip(names, keys, strict=True) if not subset or pair[1] in subset]
    return Classes(tuple(name for name, _ in pairs), tuple(key for _, key in pairs))


def templates(source: str, language: str = ENGLISH) -> Sequence[str] | None:
    """The templates of a known dataset; None if it has none."""
    babel = _babel(language) if source == IMAGENET else None
    return babel[2] if babel else named(language, "templates").get(source)


def labels_of(name: str, picture: str) -> list[int]:
    """The labels of a picture of ImageNet's validation split, by the number in its name.

    `name` is that of a file, "imagenet_real"; `picture` is such as
    "n01751748/ILSVRC2012_val_00000001.JPEG", and of another form a `KeyError`.
    """
    known = asset(name)["labels"]
    number = re.search(r"ILSVRC2012_val_(\d{8})", picture)
    if number is None or not 1 <= int(number[1]) <= len(known):
        raise KeyError(picture)
    return known[int(number[1]) - 1]


def strings(values: Any, what: str) -> tuple[str, ...]:
    """Checks a list of nonempty strings."""
    good = isinstance(values, Sequence) and not isinstance(values, str)
    if not good or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{what} must be a list of strings that are not empty; got: {values!r}")
    return tuple(values)


def objectnet(folder: str) -> Classes:
    """The classes that ObjectNet shares with ImageNet, from the `mappings` that come with it.

    Its names in lower case, in the order of its folders' names, as in CLIP_benchmark; keys are
    the folders.
    """
    names = files.read_json(f"{folder}/folder_to_objectnet_label.json")
    shared = files.read_json(f"{folder}/objectnet_to_imagenet_1k.json")
    folders = sorted(name for name, label in names.items() if label in shared)
    if not folders:
        raise DataError(f"{folder}: none of ObjectNet's names is among the shared classes")
    return Classes(tuple(names[name].lower() for name in folders), tuple(folders))


def _from_file(path: str) -> Classes:
    content = files.read_json(path)
    if not isinstance(content, dict):
        return Classes(strings(content, "class names"))
    names = strings(content.get("classes", ()), "class names")
    if "keys" not in content:
        return Classes(names)
    keys = strings(content["keys"], "keys")
    if len(keys) != len(names) or len(set(keys)) != len(keys):
        raise DataError(
            f"{path}: {len(keys)} keys, {len(set(keys))} of them different, for {len(names)} "
            f"classes"
        )
    return Classes(names, keys)


@functools.cache
def asset(name: str) -> dict[str, Any]:
    """The content of a file in `assets/`."""
    return files.read_json(ASSETS / f"{name}.json")


@functools.cache
def named(language: str, what: str) -> Mapping[str, tuple[str, ...]]:
    """`classes` or `templates` of a language, by dataset."""
    place = PLACE if what == "templates" else SLOT
    if language == ENGLISH:
        content = asset("clip_benchmark_en")[what]
    else:
        file = {"classes": "classnames", "templates": "zeroshot_classification_templates"}[what]
        path = _package() / f"{language}_{file}.json"
        if not path.exists():
            others = path.parent.glob(f"*_{file}.json")
            languages = [other.name.removesuffix(f"_{file}.json") for other in others]
            raise ConfigError(unknown(f"language of {what}", language, languages))
        content = files.read_json(path)
    lists = {name: texts for name, texts in content.items() if isinstance(texts, list)}
    return {name: tuple(t.replace(place, SLOT) for t in texts) for name, texts in lists.items()}


@functools.cache
def _babel(language: str) -> tuple[list[str], list[int], list[str]] | None:
    """Babel-ImageNet's names of a language, the numbers of their classes, and its templates.

    None where the language has a table of its own, or is not in Babel-ImageNet.
    """
    if language == ENGLISH or (_package() / f"{language}_classnames.json").exists():
        return None
    entry = files.read_json(_package() / "babel_imagenet.json").get(language.upper())
    if entry is None:
        return None
    numbers, names = entry
    templates = files.read_json(_package() / "nllb_dist13b_prompts.json")[language.upper()]
    return names, numbers, templates


def _package() -> Path:
    """The folder of an installed clip_benchmark with its tables."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        command = f"pip install --no-deps {PACKAGE}"
        message = f"other languages than English are read from {PACKAGE}, which is not installed"
        where = "the Python environment"
        raise MissingData(f"{message}: {command}", dataset=PACKAGE, looked=where, command=command)
    return Path(spec.origin).parent / "datasets"
