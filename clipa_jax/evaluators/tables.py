"""Class names and prompt templates, from `tables/`, files or an installed package.

`tables/*.json` are made by tools/build_eval_tables.py from packages that contain them; each has its
provenance and licence. Other languages than English are read from an installed `clip_benchmark`.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipa_jax.errors import ConfigError, DataError, MissingData, unknown

TABLES = Path(__file__).parent / "tables"
ENGLISH = "en"
SLOT, PLACE = "{}", "{c}"  # stands for the class name: here, and in CLIP_benchmark
PACKAGE = "clip_benchmark"


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, in the order of its labels.

    Attributes:
      names: as in a prompt.
      keys: as in the data, such as WordNet ids; None if unknown.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...] | None = None


def classes(source: str | Sequence[str], language: str = ENGLISH) -> Classes:
    """The classes of a data set, from a file, or as given.

    Args:
      source: the names; a data set of the tables, e.g. "imagenet1k"; or the path of a JSON file: a
        list of names, or an object with a list `classes` and perhaps another, `keys`.
      language: of a data set's names.

    Raises:
      ConfigError: an unknown data set.
      DataError: a file that is not of this form.
    """
    if not isinstance(source, str):
        return Classes(strings(source, "class names"))
    if source.endswith(".json"):
        return _from_file(Path(source))
    subset = _imagenet()["subsets"].get(source)
    whole = "imagenet1k" if subset else source
    babel = _babel(language) if whole == "imagenet1k" else None
    if babel:
        return _only(babel[0], subset)
    names = named(language, "classes").get(whole)
    if names is None:
        options = [*named(language, "classes"), *_imagenet()["subsets"]]
        raise ConfigError(unknown("class names", source, options))
    if whole != "imagenet1k":
        return Classes(tuple(names))
    return _only(Classes(tuple(names), tuple(_imagenet()["wordnet_ids"])), subset)


def templates(source: str, language: str = ENGLISH) -> tuple[str, ...] | None:
    """The templates of a data set of the tables; None if it has none."""
    babel = _babel(language) if source == "imagenet1k" else None
    return babel[1] if babel else named(language, "templates").get(source)


def template_names() -> list[str]:
    """Data sets with templates."""
    return list(named(ENGLISH, "templates"))


def labels_of(table: str, picture: str) -> list[int]:
    """The labels of a picture of ImageNet's validation split, by the number in its name.

    Args:
      table: "imagenet_real".
      picture: such as "n01751748/ILSVRC2012_val_00000001.JPEG".

    Raises:
      KeyError: a name of another form.
    """
    known = _table(table)["labels"]
    number = re.search(r"ILSVRC2012_val_(\d{8})", picture)
    if number is None or not 1 <= int(number[1]) <= len(known):
        raise KeyError(picture)
    return known[int(number[1]) - 1]


def catalogue() -> dict[str, Any]:
    """Content for `catalogue`: `datasets` by name, and `aliases` of their names."""
    return _table("datasets")


def read(path: Path, what: str) -> Any:
    """The content of a JSON file, or a `DataError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no file {path} with {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} with {what} cannot be read as JSON: {error}") from None


def strings(values: Any, what: str) -> tuple[str, ...]:
    """Checks a list of nonempty strings."""
    good = isinstance(values, Sequence) and not isinstance(values, str)
    if not good or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{what} must be a list of strings that are not empty; came: {values!r}")
    return tuple(values)


def objectnet(folder: str) -> Classes:
    """The classes that ObjectNet shares with ImageNet, from the `mappings` that come with it.

    Its names in lower case, in the order of its folders' names, as in CLIP_benchmark; keys are
    the folders.

    Raises:
      DataError: no such files in the folder.
    """
    place = Path(folder)
    names = read(place / "folder_to_objectnet_label.json", "ObjectNet's names")
    shared = read(place / "objectnet_to_imagenet_1k.json", "ObjectNet's shared classes")
    folders = sorted(name for name, label in names.items() if label in shared)
    if not folders:
        raise DataError(f"{place}: none of ObjectNet's names is among the shared classes")
    return Classes(tuple(names[name].lower() for name in folders), tuple(folders))


def _from_file(path: Path) -> Classes:
    content = read(path, "class names")
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
def _table(name: str) -> dict[str, Any]:
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


def _imagenet() -> dict[str, Any]:
    return _table("imagenet")


@functools.cache
def named(language: str, what: str) -> Mapping[str, tuple[str, ...]]:
    """Class names or templates of a language, by data set."""
    if language == ENGLISH:
        content = _table("clip_benchmark_en")[what]
    else:
        file = {"classes": "classnames", "templates": "zeroshot_classification_templates"}[what]
        path = _package() / f"{language}_{file}.json"
        if not path.exists():
            others = path.parent.glob(f"*_{file}.json")
            languages = [other.name.removesuffix(f"_{file}.json") for other in others]
            raise ConfigError(unknown(f"language of {what}", language, languages))
        content = read(path, f"{what} of {language}")
    place = PLACE if what == "templates" else SLOT
    lists = {name: texts for name, texts in content.items() if isinstance(texts, list)}
    return {name: tuple(t.replace(place, SLOT) for t in texts) for name, texts in lists.items()}


def _only(whole: Classes, keys: Sequence[str] | None) -> Classes:
    """The classes with these keys; all for None."""
    assert whole.keys is not None
    kept = [
        pair for pair in zip(whole.names, whole.keys, strict=True) if not keys or pair[1] in keys
    ]
    return Classes(tuple(name for name, _ in kept), tuple(key for _, key in kept))


@functools.cache
def _babel(language: str) -> tuple[Classes, tuple[str, ...]] | None:
    """Babel-ImageNet's names and templates of a language, mostly for a part of the classes.

    None where the language has a table of its own, or is not in Babel-ImageNet.
    """
    if language == ENGLISH or (_package() / f"{language}_classnames.json").exists():
        return None
    entry = read(_package() / "babel_imagenet.json", "Babel-ImageNet").get(language.upper())
    if entry is None:
        return None
    numbers, names = entry
    ids = _imagenet()["wordnet_ids"]
    templates = read(_package() / "nllb_dist13b_prompts.json", "prompts")[language.upper()]
    return Classes(tuple(names), tuple(ids[n] for n in numbers)), tuple(templates)


def _package() -> Path:
    """The folder of an installed clip_benchmark with its tables."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        command = f"pip install --no-deps {PACKAGE}"
        raise MissingData(
            f"other languages than English are read from {PACKAGE}, which is not installed: "
            f"{command}",
            dataset=PACKAGE,
            looked="the Python environment",
            command=command,
        )
    return Path(spec.origin).parent / "datasets"
