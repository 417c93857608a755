"""The rules by which data/icons/build.py names icons, finds families and holds them out."""

import collections
import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "data/icons/build.py"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("icons_build", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["icons_build"] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("key", "more", "text"),
    [
        ("arrow-left-circle", {}, "arrow left circle"),
        ("arrow-left-circle-outline", {}, "arrow left circle"),
        ("home-24-filled", {}, "home"),
        ("outline-home", {"prefixes": {"outline": "Outline"}}, "home"),
        ("chart-line", {}, "chart line"),
        ("home-line", {"suffixes": {"": "Fill", "line": "Line"}}, "home"),
        ("filled", {}, "filled"),
    ],
)
def test_the_name_without_words_of_style_is_the_caption(build, key, more, text):
    assert build.caption(key, more) == text


def test_two_drawings_of_a_name_and_a_set_are_kept_and_names_without_a_word_are_not(build):
    keys = ["home", "home-outline", "home-filled", "home-sharp", "7", "x"]
    icons = {"icons": {key: {"body": "<path/>"} for key in keys}, "width": 24, "height": 20}
    drawings = list(build.chosen("a", icons, seed=0))
    assert [text for _, text, _ in drawings] == ["home", "home"]
    assert 'viewBox="0 0 24 20"' in drawings[0][2]
    assert list(build.chosen("a", icons, seed=0)) == drawings


def icons_of(build, sets):
    """Icons of one name for each hash."""
    return [
        build.Icon(prefix, f"{prefix}{n}", f"name {n}", b"", number)
        for prefix, hashes in sets.items()
        for n, number in enumerate(hashes)
    ]


def test_sets_of_an_author_and_sets_that_share_drawings_are_one_family(build):
    authors = {"first": "A", "second": "A", "fork": "B", "other": "C"}
    sets = {prefix: {"info": {"author": {"name": name}}} for prefix, name in authors.items()}
    one, two, three = (0xFFFF << shift for shift in (16, 32, 48))  # far from each other
    hashes = {"first": range(20), "second": [one], "fork": [0, 1, two, two], "other": [three] * 20}
    icons = icons_of(build, hashes)
    family = build.families(sets, icons)
    assert family["first"] == family["second"] == family["fork"] != family["other"]


def test_names_are_tested_on_families_that_training_never_sees(build):
    icons = icons_of(build, {f"set{n}": range(10) for n in range(10)})
    family = {f"set{n}": f"set{n - n % 2}" for n in range(10)}
    train, test = build.split(icons, family, seed=0, names=5)
    assert len(train) == 80 and len({icon.text for icon in test}) == len(test) == 5
    assert not {family[icon.set] for icon in train} & {family[icon.set] for icon in test}
    drawn = collections.defaultdict(set)
    for icon in train:
        drawn[icon.text].add(family[icon.set])
    assert all(len(drawn[icon.text]) >= build.KNOWN for icon in test)
