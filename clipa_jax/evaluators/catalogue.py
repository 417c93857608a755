"""Datasets by name: their locations in each layout, and their prompts.

`assets/datasets.json` has the name of each set in the layouts that evaluators read: a folder of
CLIP_benchmark, a folder for each class, Karpathy's captions, TFDS. The first that exists is taken;
TFDS is last, since it has a folder of its own (TFDS_DATA_DIR).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from clipa_jax.data import sources
from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import class_names
from clipa_jax.evaluators.dataset import ReadConfig
from clipa_jax.runtime import storage

CLASSIFICATION, RETRIEVAL = "classification", "retrieval"
_LABELS = {"clip_benchmark": "cls"}  # other layouts call it "label"
# Of a source that is not in the catalogue, unless it is named.
_SPLITS = {"clip_benchmark": "test", "class_folders": "all", "karpathy": "test"}
CLIP_BENCHMARK, TFDS = "clip_benchmark", "tfds"


@dataclass(frozen=True, kw_only=True)
class DataConfig(ReadConfig):
    """Keys of every evaluator that can take its data from the catalogue."""

    # A name in the catalogue, such as "imagenet1k", which sets the keys that are not given; None
    # where `source` is given.
    dataset: str | None = None
    # A folder with datasets, for `dataset`; "" for those of TFDS alone, None for the config's.
    root: str | None = None
    source: str | None = None  # the data, such as "tfds:data/emoji/1.0.0"
    split: str | None = None


@dataclass(frozen=True)
class Entry:
    """Settings for reading a dataset; evaluators' keys of the same names override them."""

    source: str = ""
    split: str = ""  # of the scored pictures
    train_split: str = ""  # of a probe's training pictures; "" where the set has none
    label: str = "label"  # the feature with the class or classes
    classes: str | Sequence[str] | class_names.Classes | None = None  # None: the data's own names
    templates: str | Sequence[str] | None = None  # None: the data's own
    naming: str = "as_given"  # conversion of the data's own names to words, see `NAMINGS`
    metric: str = "accuracy"  # of classification
    outside: str = "error"  # treatment of pictures of no class
    pictures: str = ""  # a table of labels by picture, where the data has none
    captions: Sequence[int] | None = None  # positions that are used; None for all
    least: int = 1  # captions that a picture must have


def entry(config: DataConfig, root: str, evaluator: str, task: str) -> Entry:
    """The settings for an evaluator's data: those of the catalogue, overridden by its own keys.

    `root` is the folder with datasets where the config names none, `task` is `CLASSIFICATION` or
    `RETRIEVAL`. Raises `ConfigError` for an unknown name, a set for another task, or no source or
    split; `MissingData` if the set is in none of its locations.
    """
    try:
        known = _of_catalogue(config, root if config.root is None else config.root, task)
    except MissingData as error:
        raise error.of(f"evaluator {evaluator}") from None
    given = {field.name: getattr(config, field.name, None) for field in fields(known)}
    known = replace(known, **{key: value for key, value in given.items() if value is not None})
    for key in ("source", "split"):
        if not getattr(known, key):
            raise ConfigError(
                f"evaluator {evaluator}: {key}= is needed, or dataset= with a known name"
            )
    return known


def locate(dataset: str, root: str) -> tuple[str, str]:
    """(source, split) of a dataset, where it is first found.

    Raises `ConfigError` for an unknown name, `MissingData` if it is in none of its locations.
    """
    source, layout = _find(*_known(dataset), root.rstrip("/"))
    return source, layout.get("split", _SPLITS.get(source.partition(":")[0], ""))


def _of_catalogue(config: DataConfig, root: str, task: str) -> Entry:
    known: dict[str, Any] = {}
    layout: dict[str, Any] = {}
    root, source = root.rstrip("/"), config.source or ""
    if config.dataset is not None:
        name, known = _known(config.dataset)
        if known["task"] != task:
            raise ConfigError(f"dataset={config.dataset!r} is for {known['task']}, not for {task}")
        if source:
            layout = known["layouts"].get(source.partition(":")[0], {})
        else:
            source, layout = _find(name, known, root)
    mappings = layout.get("mappings")
    keys = ("templates", "naming", "metric", "outside")
    captions = known.get("captions")
    kind = source.partition(":")[0]
    return Entry(
        source=source,
        split=layout.get("split", _SPLITS.get(kind, "")),
        train_split=layout.get("train", ""),
        label=layout.get("label", _LABELS.get(kind, "label")),
        pictures=layout.get("pictures", ""),
        classes=class_names.objectnet(f"{root}/{mappings}") if mappings else known.get("classes"),
        captions=captions and range(captions),
        least=captions or 1,
        **{key: known[key] for key in keys if key in known},
    )


# Conversions of the data's class names to words, as in CLIP_benchmark.
NAMINGS: dict[str, Callable[[str], str]] = {
    "as_given": str,
    "blanks": lambda name: name.replace("_", " "),
    # SUN397's: `/a/apartment_building/outdoor` -> `apartment building outdoor`
    "paths": lambda name: re.sub("^/./", "", name).replace("_", " ").replace("/", " "),
}


def _known(dataset: str) -> tuple[str, dict[str, Any]]:
    listed = class_names.asset("datasets")
    name = dataset.replace("-", "_")
    name = listed["aliases"].get(name, name)
    if name not in listed["datasets"]:
        options = [*listed["datasets"], *listed["aliases"]]
        raise ConfigError(unknown("dataset", dataset, options))
    return name, listed["datasets"][name]


def _find(name: str, known: dict[str, Any], root: str) -> tuple[str, dict[str, Any]]:
    """(source, layout) of the first location that exists."""
    looked = [] if root else ["root= (it names no folder with datasets)"]
    # The command makes the first layout, in `root`, or where TFDS keeps its own.
    export = known["layouts"].get(CLIP_BENCHMARK, {})
    command = (
        f"clip_benchmark_export_wds --dataset {export.get('name')} --split {export.get('split')} "
        f"--dataset_root {root or 'ROOT'}/raw/{name} --output {root or 'ROOT'}/{export.get('name')}"
    )
    for kind, where, layout in _places(known, root):
        if kind != TFDS:
            looked.append(where)
            # A folder of classes may have the name that it has in CLIP_benchmark.
            sign = f"{where}/{layout['split']}" if kind == CLIP_BENCHMARK else where
            if storage.exists(sign):
                return f"{kind}:{where}", layout
            continue
        try:
            sources.open(f"{kind}:{where}", layout["split"])
            return f"{kind}:{where}", layout
        except MissingData as error:
            looked.append(error.looked)
            command = command if root and export else error.command
    raise MissingData(
        f"no data of {name}; looked for {', '.join(looked)}; make it with: {command}",
        dataset=name,
        looked=", ".join(looked),
        command=command,
    )


def _places(known: dict[str, Any], root: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(kind, path, layout) of all locations, in the order of the search."""
    for kind, layout in known["layouts"].items():
        if kind == TFDS:
            yield kind, layout["name"], layout
        elif root and kind == CLIP_BENCHMARK:
            flat = layout["name"].replace("/", "-")
            for folder in (layout["name"], f"wds/{layout['name']}", f"wds_{flat}"):
                yield kind, f"{root}/{folder}", layout
        elif root:
            yield kind, f"{root}/{layout['name']}", layout
