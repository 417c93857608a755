"""The rules by which data/clipart/build.py names and draws clip art."""

import importlib.util
from pathlib import Path, PurePath

import pytest
from PIL import Image

from clipa_jax.errors import UserError

PATH = Path(__file__).parents[2] / "data/clipart/build.py"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("clipart_build", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("png/animals/sea_life/big_fish_of_01.png", "big fish, sea life"),
        ("png/signs/STOP-Sign.png", "stop sign, signs"),
        ("png/signs/01_a.png", ""),
    ],
)
def test_the_words_of_the_name_and_the_folder_are_the_caption(build, path, text):
    assert build.caption(PurePath(path)) == text


def test_readable_pictures_with_words_become_pairs_in_a_fixed_order(build, tmp_path):
    root = tmp_path / "png" / "things"
    root.mkdir(parents=True)
    for number, name in enumerate(("red ball", "blue ball", "green ball", "7")):
        Image.new("RGBA", (20, 10), (0, 0, 0, 0 if number else 255)).save(root / f"{name}.png")
    (root / "broken.png").write_bytes(b"no picture")
    (root / "link.png").symlink_to(root / "red ball.png")
    Image.new("L", (2_000, 2_000)).save(root / "large.png")
    texts = []
    for out in (tmp_path / "a", tmp_path / "b"):
        assert build.build(tmp_path / "png", out, seed=0, count=10, side=8) == 3
        texts.append([(out / f"{n:05d}.txt").read_text() for n in range(3)])
    assert texts[0] == texts[1]
    assert sorted(texts[0]) == ["blue ball, things", "green ball, things", "red ball, things"]
    picture = Image.open(tmp_path / "a" / f"{texts[0].index('red ball, things'):05d}.png")
    assert picture.size == (8, 8) and picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((4, 4)) == (0, 0, 0)
    assert build.build(tmp_path / "png", tmp_path / "c", seed=0, count=2, side=8) == 2


def test_without_debian_the_error_says_where_to_put_the_package(build, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get is not here.* into --cache"):
        build.fetch(tmp_path / "cache")
