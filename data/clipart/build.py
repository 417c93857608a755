"""Builds pairs of clip art and its words from Debian's `openclipart-png`; nothing of it is bundled.

    python data/clipart/build.py --out=clipart

Needs `apt-get` and `dpkg-deb`, so Debian or a system made from it; the package is downloaded, not
installed. `<out>/NNNNN.png` and `.txt` are pairs in random order, read by `folder:clipart`.
`data/clipart/README.md` is the data card.
"""

import pathlib
import random
import re
import subprocess
import sys
import tempfile

from absl import flags
from PIL import Image, UnidentifiedImageError

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # for clipa_jax

from clipa_jax.errors import UserError
from clipa_jax.runtime import cli
from clipa_jax.runtime.progress import Progress

PACKAGE = "openclipart-png"
PICTURES = "usr/share/openclipart/png"
MAX_PIXELS = 3_000_000  # of a picture; larger ones are left out


def fetch(cache: pathlib.Path) -> pathlib.Path:
    """Returns the package in `cache`; apt-get downloads it if it is missing."""
    cache.mkdir(parents=True, exist_ok=True)
    if not (packages := sorted(cache.glob(f"{PACKAGE}_*.deb"))):
        run("apt-get", "download", PACKAGE, folder=cache)
        packages = sorted(cache.glob(f"{PACKAGE}_*.deb"))
    return packages[-1]


def run(*command: str, folder: pathlib.Path) -> None:
    """Runs a command; `UserError` if it fails or does not exist."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is not here: run this on Debian or a system made from it, or put "
            f"{PACKAGE}_*.deb into --cache"
        ) from None
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def caption(path: pathlib.PurePath) -> str:
    """`animals/sea_life/big_fish_01.png` -> "big fish, sea life"; "" without a word in the name."""
    words = [word for word in re.split("[^a-z]+", path.stem.lower()) if len(word) > 2]
    return f"{' '.join(words)}, {path.parent.name.replace('_', ' ')}" if words else ""


def drawn(path: pathlib.Path, side: int) -> Image.Image | None:
    """A picture within a white square of `side` pixels; None if it is too large or not readable."""
    try:
        image = Image.open(path)
        if image.width * image.height > MAX_PIXELS:
            return None
        image = image.convert("RGBA")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGB")


def build(root: pathlib.Path, out: pathlib.Path, seed: int, count: int, side: int) -> int:
    """Writes up to `count` pairs of the pictures below `root`; returns their number."""
    paths = sorted(p for p in root.rglob("*.png") if p.is_file() and not p.is_symlink())
    random.Random(seed).shuffle(paths)
    out.mkdir(parents=True, exist_ok=True)
    number = 0
    with Progress("pictures", min(count, len(paths))) as progress:
        for path in paths:
            text = caption(path)
            image = drawn(path, side) if text else None
            if image is None:
                continue
            image.save(out / f"{number:05d}.png")
            (out / f"{number:05d}.txt").write_text(text)
            number += 1
            progress.update(number)
            if number == count:
                break
    return number


def main(argv: list[str]) -> None:
    """Builds the pairs and says how many there are."""
    del argv
    given = flags.FLAGS
    package = fetch(pathlib.Path(given.cache))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        run("dpkg-deb", "--extract", str(package.resolve()), ".", folder=folder)
        root = folder / PICTURES
        number = build(root, pathlib.Path(given.out), given.seed, given.count, given.side)
    cli.say(f"{number} pairs of {package.name} in {given.out}")


def start() -> None:
    """Defines the flags and runs `main`."""
    flags.DEFINE_string("out", "clipart", "Folder of the pairs.")
    flags.DEFINE_string("cache", "/tmp/clipart_package", "Folder of the Debian package.")
    flags.DEFINE_integer("seed", 0, "Of the order.")
    flags.DEFINE_integer("count", 4_000, "Pairs at the most.", lower_bound=1)
    flags.DEFINE_integer("side", 64, "Of the pictures, in pixels.", lower_bound=1)
    cli.run(main, needs_config=False)


if __name__ == "__main__":
    start()
