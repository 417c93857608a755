"""Data sets by name: where they lie in each layout, and the prompts that go with them.

`tables/datasets.json` says for each set how it is called in the layouts that evaluators read: a
folder of CLIP_benchmark, a folder for each class, captions as Karpathy has them, TFDS. The first
that is there is taken; TFDS comes last, since it has a place of its own (TFDS_DATA_DIR).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from clipa_jax.data.sources import files
from clipa_jax.errors import ConfigError, MissingData, unknown
from clipa_jax.evaluators import tables

CLASSIFICATION, RETRIEVAL = "classification", "retrieval"
_LABELS = {"clip_benchmark": "cls"}  # other layouts call it "label"
_CLIP_BENCHMARK, _TFDS = "clip_benchmark", "tfds"


@dataclass(frozen=True)
class Choice:
    """What an evaluator reads, and how: the arguments of the same names.

    Attributes:
      source, split: of the pictures that are scored.
      train_split: of those that a probe learns from; "" where the set has none.
      label: the feature with the class or classes.
      classes: a name in the tables, or the classes; None for the data's own names.
      templates: likewise.
      naming: how the data's own names become words, see `NAMINGS`.
      metric: of classification.
      outside: what happens to pictures of no class.
      captions: how many a picture has at least, and are used.
    """

    source: str
    split: str
    train_split: str
    label: str
    classes: str | tables.Classes | None
    templates: str | None
    naming: str
    metric: str
    outside: str
    captions: int | None


def choose(dataset: str, root: str, task: str) -> Choice:
    """How a data set is read, by its name in the catalogue.

    Args:
      dataset: its name; hyphens may stand for underscores.
      root: a folder with data sets; "" to look in TFDS alone.
      task: what it is wanted for.

    Raises:
      ConfigError: an unknown name, or a set for another task.
      MissingData: it is in none of the places where it was looked for.
    """
    name, entry = _entry(dataset)
    if entry["task"] != task:
        raise ConfigError(f"dataset={dataset!r} is for {entry['task']}, not for {task}")
    kind, source, layout = _find(name, entry, root.rstrip("/"))
    return Choice(
        source=source,
        split=layout["split"],
        train_split=layout.get("train", ""),
        label=layout.get("label", _LABELS.get(kind, "label")),
        classes=_classes(entry, layout, root.rstrip("/")),
        templates=entry.get("templates"),
        naming=entry.get("naming", "as_given"),
        metric=entry.get("metric", "accuracy"),
        outside=entry.get("outside", "error"),
        captions=entry.get("captions"),
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


# How class names that come with the data become words: as CLIP_benchmark has them.
NAMINGS = {"as_given": _as_given, "blanks": _blanks, "paths": _paths}


def _entry(dataset: str) -> tuple[str, dict[str, Any]]:
    listed = tables.catalogue()
    name = dataset.replace("-", "_")
    name = listed["aliases"].get(name, name)
    if name not in listed["datasets"]:
        options = [*listed["datasets"], *listed["aliases"]]
        raise ConfigError(unknown("dataset", dataset, options))
    return name, listed["datasets"][name]


def _find(name: str, entry: dict[str, Any], root: str) -> tuple[str, str, dict[str, Any]]:
    """(kind, source, layout) of the first place where the data is; TFDS without looking."""
    looked = []
    for kind, where, layout in _places(entry, root):
        if kind == _TFDS:
            return kind, f"{kind}:{where}", layout  # which looks for itself
        looked.append(where)
        if files.exists(where):
            return kind, f"{kind}:{where}", layout
    if not looked:
        looked = ["root= (no folder with data sets is given)"]
    command = _command(name, entry, root or "ROOT")
    raise MissingData(
        f"dataset {name} is not there; looked for {', '.join(looked)}; make it with: {command}",
        dataset=name,
        looked=", ".join(looked),
        command=command,
    )


def _places(entry: dict[str, Any], root: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for kind, layout in entry["layouts"].items():
        if kind == _TFDS:
            yield kind, layout["name"], layout
        elif root and kind == _CLIP_BENCHMARK:
            flat = layout["name"].replace("/", "-")
            for folder in (layout["name"], f"wds/{layout['name']}", f"wds_{flat}"):
                yield kind, f"{root}/{folder}", layout
        elif root:
            yield kind, f"{root}/{layout['name']}", layout


def _classes(
    entry: dict[str, Any], layout: dict[str, Any], root: str
) -> str | tables.Classes | None:
    if "mappings" in layout:
        return tables.objectnet(f"{root}/{layout['mappings']}")
    return entry.get("classes")


def _command(name: str, entry: dict[str, Any], root: str) -> str:
    """What would make the data, as CLIP_benchmark exports it."""
    layout = entry["layouts"][_CLIP_BENCHMARK]
    theirs = layout["name"]
    return (
        f"clip_benchmark_export_wds --dataset {theirs} --split {layout['split']} "
        f"--dataset_root {root}/raw/{name} --output {root}/{theirs}"
    )
