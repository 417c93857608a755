"""Data sets by name: their locations in each layout, and their prompts.

`tables/datasets.json` has the name of each set in the layouts that evaluators read: a folder of
CLIP_benchmark, a folder for each class, Karpathy's captions, TFDS. The first that exists is taken;
TFDS is last, since it has a folder of its own (TFDS_DATA_DIR).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from clipa_jax.data.sources import files
from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import tables
from clipa_jax.evaluators.dataset import ReadConfig

CLASSIFICATION, RETRIEVAL = "classification", "retrieval"
_LABELS = {"clip_benchmark": "cls"}  # other layouts call it "label"
CLIP_BENCHMARK, TFDS = "clip_benchmark", "tfds"


@dataclass(frozen=True, kw_only=True)
class DataConfig(ReadConfig):
    """Keys of every evaluator that can take its data from the catalogue.

    Attributes:
      dataset: a name in the catalogue (`tables/datasets.json`), e.g. "imagenet1k", which sets
        the keys that are not given; None where `source` is given.
      root: a folder with data sets, for `dataset`; "" for those of TFDS alone.
      source: the data, e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
    """

    dataset: str | None = None
    root: str = ""
    source: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Entry:
    """How a data set is read; evaluators' keys of these names replace it.

    Attributes:
      source, split: of the scored pictures; "" if unknown.
      train_split: of a probe's training pictures; "" where the set has none.
      label: the feature with the class or classes.
      classes: a name in the tables, or the classes; None for the data's own names.
      templates: a name in the tables; None for the data's own.
      naming: conversion of the data's own names to words, see `NAMINGS`.
      metric: of classification.
      outside: treatment of pictures of no class.
      pictures: a table of labels by picture, where the data has none; "" for none.
      captions: number that a picture must have, and that are used; None for all.
    """

    source: str = ""
    split: str = ""
    train_split: str = ""
    label: str = "label"
    classes: str | tables.Classes | None = None
    templates: str | None = None
    naming: str = "as_given"
    metric: str = "accuracy"
    outside: str = "error"
    pictures: str = ""
    captions: int | None = None


def choose(dataset: str | None, root: str, source: str | None, task: str) -> Entry:
    """The entry of a data set.

    Args:
      dataset: its name in the catalogue, with hyphens or underscores; None for a `source` that is
        not in the catalogue.
      root: a folder with data sets; "" for TFDS alone.
      source: of the data; None to search for it.
      task: `CLASSIFICATION` or `RETRIEVAL`.

    Raises:
      ConfigError: an unknown name, or a set for another task.
      MissingData: it is in none of its locations.
    """
    if dataset is None:
        return _entry({}, {}, source or "", root)
    name, known = _known(dataset)
    if known["task"] != task:
        raise ConfigError(f"dataset={dataset!r} is for {known['task']}, not for {task}")
    if source is None:
        source, layout = _find(name, known, root.rstrip("/"))
    else:
        layout = known["layouts"].get(source.partition(":")[0], {})
    return _entry(known, layout, source, root.rstrip("/"))


def _entry(known: dict[str, Any], layout: dict[str, Any], source: str, root: str) -> Entry:
    kind = source.partition(":")[0]
    mappings = layout.get("mappings")
    keys = ("templates", "naming", "metric", "outside", "captions")
    return Entry(
        source=source,
        split=layout.get("split", ""),
        train_split=layout.get("train", ""),
        label=layout.get("label", _LABELS.get(kind, "label")),
        pictures=layout.get("pictures", ""),
        classes=tables.objectnet(f"{root}/{mappings}") if mappings else known.get("classes"),
        **{key: known[key] for key in keys if key in known},
    )


def names(task: str) -> list[str]:
    """The data sets for a task."""
    return [name for name, entry in tables.catalogue()["datasets"].items() if entry["task"] == task]


def _as_given(own: Sequence[str]) -> list[str]:
    return list(own)


def _blanks(own: Sequence[str]) -> list[str]:
    """`apple_pie` -> `apple pie`."""
    return [name.replace("_", " ") for name in own]


def _paths(own: Sequence[str]) -> list[str]:
    """SUN397's: `/a/apartment_building/outdoor` -> `apartment building outdoor`."""
    return [re.sub("^/./", "", name).replace("/", " ") for name in _blanks(own)]


# Conversions of the data's class names to words, as in CLIP_benchmark.
NAMINGS = {"as_given": _as_given, "blanks": _blanks, "paths": _paths}


def _known(dataset: str) -> tuple[str, dict[str, Any]]:
    listed = tables.catalogue()
    name = dataset.replace("-", "_")
    name = listed["aliases"].get(name, name)
    if name not in listed["datasets"]:
        options = [*listed["datasets"], *listed["aliases"]]
        raise ConfigError(unknown("dataset", dataset, options))
    return name, listed["datasets"][name]


def _find(name: str, known: dict[str, Any], root: str) -> tuple[str, dict[str, Any]]:
    """(source, layout) of the first location that exists."""
    looked = []
    for kind, where, layout in _places(known, root):
        looked.append(where)
        if kind == TFDS or files.exists(where):  # opening a TFDS source names its location
            return f"{kind}:{where}", layout
    if not looked:
        looked = ["root= (no folder with data sets is given)"]
    command = _command(name, known, root or "ROOT")
    raise MissingData(
        f"dataset {name} is not there; looked for {', '.join(looked)}; make it with: {command}",
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


def _command(name: str, known: dict[str, Any], root: str) -> str:
    """The command that makes the data in CLIP_benchmark's layout."""
    layout = known["layouts"][CLIP_BENCHMARK]
    exported = layout["name"]
    return (
        f"clip_benchmark_export_wds --dataset {exported} --split {layout['split']} "
        f"--dataset_root {root}/raw/{name} --output {root}/{exported}"
    )
