"""Builds pairs of icons and their names from npm's `@iconify/json`; nothing of it is bundled.

    pip install resvg-py==0.5.0
    python data/icons/build.py --out=icons --cache=/tmp/icon_packages

Needs `npm` on the PATH (only `npm pack` is used; nothing is installed or run). The version of the
package, the seed and the renderer are fixed. `<out>/train/*.tar` has pairs in the layout of
img2dataset, `<out>/held_out/NAME/*.png` one picture of each of 2,000 names, drawn by families of
sets that training never sees; `<out>/sets.json` says for each set its family, author and license.
`data/icons/README.md` is the data card, with the rules.
"""

import collections
import concurrent.futures
import dataclasses
import io
import itertools
import json
import os
import pathlib
import random
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for artwork
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # for clipa_jax

import artwork

from clipa_jax.prepare import perceptual
from clipa_jax.runtime import cli

PACKAGE = "@iconify/json@2.2.535"
SIDE = 64  # pixels
PER_TAR = 10_000
CATEGORIES = {"Emoji", "Logos"}  # left out: the demo's subject, and names that no drawing shows
FLAGS = {"cif", "circle-flags", "flag", "flagpack"}  # left out: their names are codes
VARIANTS = 2  # drawings of a name and a set that are kept: many sets draw each in ten styles
HELD_OUT = 0.2  # share of the pictures in the families held out
KNOWN = 3  # a name is used for the test if so many families of training draw it
SAME, FORKED = 4, 0.1  # bits; share of a set's drawings that another has, which makes them kin
NEAR = 8  # bits between a picture of training and a held-out one that make it a near-duplicate
STYLES = re.compile(r"-(outlined?|filled|solid|duotone|two-?tone|rounded|sharp|\d\d(px)?)$")


@dataclasses.dataclass(frozen=True)
class Icon:
    """One picture with its name as text."""

    set: str
    key: str  # its name in the set
    text: str
    png: bytes
    hash: int


def caption(key: str, icons: dict[str, Any]) -> str:
    """`arrow-left-circle-outline` -> "arrow left circle".

    Words of style are dropped where the set declares them as its suffixes or prefixes, or at the
    end, where STYLES has them; dashes and underscores become spaces.
    """
    for ending in sorted(icons.get("suffixes", ()), key=len, reverse=True):
        if ending and key.endswith("-" + ending):
            key = key.removesuffix("-" + ending)
            break
    for start in icons.get("prefixes", ()):
        if start and key.startswith(start + "-"):
            key = key.removeprefix(start + "-")
            break
    while (shorter := STYLES.sub("", key)) != key:
        key = shorter
    return " ".join(re.findall(r"[a-z0-9]+", key.lower()))


def chosen(prefix: str, icons: dict[str, Any], seed: int) -> Iterator[tuple[str, str, str]]:
    """(key, caption, SVG) of the drawings that are kept, at most VARIANTS of a caption."""
    keys = sorted(key for key, icon in icons["icons"].items() if not icon.get("hidden"))
    random.Random(f"{seed}/{prefix}").shuffle(keys)
    count: collections.Counter[str] = collections.Counter()
    for key in keys:
        text = caption(key, icons)
        count[text] += 1
        if re.search("[a-z]{2}", text) and count[text] <= VARIANTS:
            yield key, text, artwork.iconify_svg(icons["icons"][key], icons, SIDE)


def draw(prefix: str, drawings: list[tuple[str, str, str]]) -> list[Icon]:
    """The pictures of a set, without those of one color (an animation begins empty)."""
    icons = []
    for key, text, svg in drawings:
        picture = artwork.on_white(artwork.render(svg, SIDE)).convert("RGB")
        if all(low == high for low, high in picture.getextrema()):
            continue
        out = io.BytesIO()
        picture.save(out, "PNG")
        number = int(perceptual.picture_hash(np.asarray(picture)))
        icons.append(Icon(prefix, key, text, out.getvalue(), number))
    return icons


def families(sets: dict[str, dict[str, Any]], icons: Iterable[Icon]) -> dict[str, str]:
    """Set -> family: sets of one author, and those that share a tenth of the smaller's drawings.

    A drawing is shared if a picture of the same name differs in at most SAME bits of its hash.
    """
    parent = {prefix: prefix for prefix in sets}

    def root(prefix: str) -> str:
        while parent[prefix] != prefix:
            prefix = parent[prefix]
        return prefix

    by_author = collections.defaultdict(list)
    for prefix, content in sets.items():
        by_author[content["info"]["author"]["name"]].append(prefix)
    kin = [pair for group in by_author.values() for pair in itertools.pairwise(group)]
    by_text, size = collections.defaultdict(list), collections.Counter(i.set for i in icons)
    for icon in icons:
        by_text[icon.text].append(icon)
    shared: collections.Counter[tuple[str, str]] = collections.Counter()
    for group in by_text.values():
        alike = {
            tuple(sorted((a.set, b.set)))
            for a, b in itertools.combinations(group, 2)
            if a.set != b.set and (a.hash ^ b.hash).bit_count() <= SAME
        }
        shared.update(alike)
    kin += [(a, b) for (a, b), n in shared.items() if n >= FORKED * min(size[a], size[b])]
    for a, b in kin:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {prefix: root(prefix) for prefix in sets}


def split(icons: list[Icon], family: dict[str, str], seed: int, names: int):
    """(training, held-out) pictures: one of each of the names from the families held out."""
    size = collections.Counter(family[icon.set] for icon in icons)
    order = sorted(size)
    random.Random(seed).shuffle(order)
    held: set[str] = set()
    for name in order:  # a family that would take more than what is left stays in training
        if sum(size[n] for n in held) + size[name] <= HELD_OUT * len(icons):
            held.add(name)
    train = [icon for icon in icons if family[icon.set] not in held]
    drawn = collections.defaultdict(set)
    for icon in train:
        drawn[icon.text].add(family[icon.set])
    others = collections.defaultdict(list)
    for icon in icons:
        if family[icon.set] in held and len(drawn[icon.text]) >= KNOWN:
            others[icon.text].append(icon)
    rng = random.Random(seed)
    texts = rng.sample(sorted(others), min(names, len(others)))
    return train, [rng.choice(others[text]) for text in sorted(texts)]


def write(train: list[Icon], test: list[Icon], licenses: dict[str, str], out: pathlib.Path):
    """The tars of training and the folders of the held-out names."""
    for start in range(0, len(train), PER_TAR):
        path = out / "train" / f"{start // PER_TAR:05d}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for number, icon in enumerate(train[start : start + PER_TAR], start):
                about = {"set": icon.set, "key": icon.key, "license": licenses[icon.set]}
                parts = {"png": icon.png, "txt": icon.text, "json": json.dumps(about)}
                for kind, content in parts.items():
                    content = content.encode() if isinstance(content, str) else content
                    member = tarfile.TarInfo(f"{number:09d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for icon in test:
        path = out / "held_out" / icon.text / f"{icon.set}_{icon.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(icon.png)


def build(out: pathlib.Path, cache: pathlib.Path, seed: int, only: list[str], names: int) -> None:
    """Fetches the package, draws the icons and writes both parts."""
    archive = artwork.fetch(PACKAGE, cache)
    contents = artwork.members(archive, r"package/json/([\w-]+)\.json")
    sets = {}
    for prefix in sorted(only or contents):
        content = json.loads(contents[prefix])
        if content["info"].get("category") not in CATEGORIES and prefix not in FLAGS:
            sets[prefix] = content
    icons: list[Icon] = []
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        work = [(prefix, list(chosen(prefix, sets[prefix], seed))) for prefix in sets]
        for drawn in tqdm(pool.map(draw, *zip(*work, strict=True)), "sets", total=len(sets)):
            icons += drawn
    family = families(sets, icons)
    train, test = split(icons, family, seed, names)
    hashes = [np.array([icon.hash for icon in part], np.uint64) for part in (train, test)]
    near = perceptual.are_near(*hashes, NEAR)
    kept = [icon for icon, is_near in zip(train, near, strict=True) if not is_near]
    random.Random(seed).shuffle(kept)
    count = collections.Counter(icon.set for icon in icons)
    infos = {prefix: sets[prefix]["info"] for prefix in sets if count[prefix]}
    write(kept, test, {p: info["license"]["title"] for p, info in infos.items()}, out)
    training = {family[icon.set] for icon in train}
    table = {
        prefix: {
            "name": info["name"], "author": info["author"]["name"], "license": info["license"],
            "family": family[prefix], "held_out": family[prefix] not in training,
            "pictures": count[prefix],
        } for prefix, info in infos.items()
    }  # fmt: skip
    (out / "sets.json").write_text(json.dumps(table, indent=1))
    held = [row for row in table.values() if row["held_out"]]
    all_families, held_families = (
        {row["family"] for row in rows} for rows in (table.values(), held)
    )
    cli.say(
        f"{len(icons)} pictures of {len(all_families)} families ({len(table)} sets)\n"
        f"held out: {len(held_families)} families ({len(held)} sets, "
        f"{sum(row['pictures'] for row in held)} pictures), of which {len(test)} names are used\n"
        f"training: {len(kept)} pictures; {len(train) - len(kept)} near-duplicates of the "
        f"{len(test)} held-out pictures went"
    )


def main(argv: list[str]) -> None:
    """Builds the pairs and says how many there are."""
    del argv
    values = flags.FLAGS
    build(
        pathlib.Path(values.out), pathlib.Path(values.cache), values.seed, values.sets, values.names
    )


def start() -> None:
    """Defines the flags and runs `main`."""
    flags.DEFINE_string("out", "icons", "Folder of the pairs and of the held-out pictures.")
    flags.DEFINE_string("cache", "/tmp/icon_packages", "Folder of the npm package.")
    flags.DEFINE_integer("seed", 0, "Of the variants, the families held out and the names.")
    flags.DEFINE_list("sets", [], "Build from these sets alone; empty for all.")
    flags.DEFINE_integer("names", 2000, "Names with a held-out picture.")
    cli.run(main, needs_config=False)


if __name__ == "__main__":
    start()
