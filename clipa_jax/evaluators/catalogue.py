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
from clipa_jax.evaluators.dataset import ReadConfig

CLASSIFICATION, RETRIEVAL = "classification", "retrieval"
_LABELS = {"clip_benchmark": "cls"}  # other layouts call it "label"
_CLIP_BENCHMARK, _TFDS = "clip_benchmark", "tfds"


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
      source, split: of the pictures that are scored; "" if not known.
      train_split: of those that a probe learns from; "" where the set has none.
      label: the feature with the class or classes.
      classes: a name in the tables, or the classes; None for the data's own names.
      templates: a name in the tables; None for the data's own.
      naming: how the data's own names become words, see `NAMINGS`.
      metric: of classification.
      outside: what happens to pictures of no class.
      pictures: a table with labels by picture, where the data has none; "" for no such.
      captions: how many a picture has at least, and are used; None for all.
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
    """How a data set is read.

    Args:
      dataset: its name in the catalogue, hyphens may stand for underscores; None for a `source`
        that the catalogue knows nothing of.
      root: a folder with data sets; "" to look in TFDS alone.
      source: where it lies; None to look.
      task: what it is wanted for.

    Raises:
      ConfigError: an unknown name, or a set for another task.
      MissingData: it is in none of the places where it was looked for.
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
    wanted = ("templates", "naming", "metric", "outside", "captions")
    return Entry(
        source=source,
        split=layout.get("split", ""),
        train_split=layout.get("train", ""),
        label=layout.get("label", _LABELS.get(kind, "label")),
        pictures=layout.get("pictures", ""),
        classes=tables.objectnet(f"{root}/{mappings}") if mappings else known.get("classes"),
        **{key: known[key] for key in wanted if key in known},
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


def _known(dataset: str) -> tuple[str, dict[str, Any]]:
    listed = tables.catalogue()
    name = dataset.replace("-", "_")
    name = listed["aliases"].get(name, name)
    if name not in listed["datasets"]:
        options = [*listed["datasets"], *listed["aliases"]]
        raise ConfigError(unknown("dataset", dataset, options))
    return name, listed["datasets"][name]


def _find(name: str, known: dict[str, Any], root: str) -> tuple[str, dict[str, Any]]:
    """(source, layout) of the first place where the data is."""
    looked = []
    for kind, where, layout in _places(known, root):
        looked.append(where)
        if kind == _TFDS or files.exists(where):  # TFDS looks for itself, and says where
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
    """(kind, where, layout) of all places, in the order in which they are looked at."""
    for kind, layout in known["layouts"].items():
        if kind == _TFDS:
            yield kind, layout["name"], layout
        elif root and kind == _CLIP_BENCHMARK:
            flat = layout["name"].replace("/", "-")
            for folder in (layout["name"], f"wds/{layout['name']}", f"wds_{flat}"):
                yield kind, f"{root}/{folder}", layout
        elif root:
            yield kind, f"{root}/{layout['name']}", layout


def _command(name: str, known: dict[str, Any], root: str) -> str:
    """What would make the data, as CLIP_benchmark exports it."""
    layout = known["layouts"][_CLIP_BENCHMARK]
    theirs = layout["name"]
    return (
        f"clip_benchmark_export_wds --dataset {theirs} --split {layout['split']} "
        f"--dataset_root {root}/raw/{name} --output {root}/{theirs}"
    )
