"""Builds the bundled demo data: emoji pictures with their Unicode names, as a TFDS folder.

    python data/emoji/build.py --out=data/emoji --cache=/tmp/emoji_packages

Needs `npm` on the PATH (only `npm pack` is used; nothing is installed or run) and, beside the
requirements of the repository, `pip install resvg-py==0.5.0`, which renders SVG from a wheel.
Package versions, the seed and the renderer are fixed, so that the same command writes the same
bytes. It takes about two minutes once the packages (160 MB) are in the cache.

The result, `<out>/1.0.0`, opens with `tfds.builder_from_directory`; `data/emoji/README.md` is its
data card. Twemoji is held out of `train` as an unseen style.
"""

import collections
import dataclasses
import io
import json
import os
import pathlib
import random
import re
import shutil
import sys
import unicodedata

from absl import flags
from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for artwork
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # for clipa_jax

import artwork

from clipa_jax.errors import UserError
from clipa_jax.runtime import cli, quiet

OUT = flags.DEFINE_string("out", "data/emoji", "Folder of the dataset.")
CACHE = flags.DEFINE_string("cache", "/tmp/emoji_packages", "Folder of the npm packages.")
SEED = flags.DEFINE_integer("seed", 0, "Of the split, the order and the captions.")
HELDOUT = flags.DEFINE_float("heldout", 0.04, "Share of the training vendors' pictures.")

SIZE = 64  # pixels a side, as in the two PNG packages, so only SVG is resampled
QUALITY = 82  # with full chroma; closer to the drawing than 90 with halved chroma, at the same size
OVERSAMPLE = 4  # SVG is drawn this much larger: the inner shadows of Fluent have jagged edges at 1
VERSION = "1.0.0"
TRAIN_SHARDS = 3
KEYWORD_CAPTIONS = 3
VARIATION_SELECTOR = "fe0f"  # vendors disagree on where it belongs; it never changes the picture
COMPONENT = 2  # emojibase's group of skin tones and hair styles: parts of emoji, not emoji

NAMES_PACKAGE = "emojibase-data@17.0.0"
PACKAGES = {  # style -> npm package; the first four are the training vendors
    "noto": "emoji-datasource-google@16.0.0",
    "openmoji": "openmoji@17.0.0",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "fluent_flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "twemoji": "emoji-datasource-twitter@16.0.0",
}
HELDOUT_STYLE = "twemoji"
WRONG = {("noto", "1f1e8-1f1f6")}  # the package has the flag of Saudi Arabia in Sark's place

# Fluent names its icons by words, not code points, and where CLDR has since renamed or simply
# differs, its word has to be looked up.
FLUENT_NAMES = dict(
    re.findall(
        r"(\S+)=(\S+)",
        """
    smiling-face-with-open-hands=hugging-face face-with-crossed-out-eyes=knocked-out-face
    enraged-face=pouting-face person-blond-hair=person-blonde-hair
    woman-blond-hair=woman-blonde-hair man-blond-hair=man-blonde-hair deaf-person=person-deaf
    deaf-man=man-deaf deaf-woman=woman-deaf merperson=person-merpeople merman=man-merpeople
    mermaid=woman-merpeople people-with-bunny-ears=person-with-bunny-ears
    men-with-bunny-ears=man-with-bunny-ears women-with-bunny-ears=woman-with-bunny-ears
    people-wrestling=person-wrestling men-wrestling=man-wrestling women-wrestling=woman-wrestling
    black-bird=blackbird phoenix=phoenix-bird pinata=piata keycap-#=keycap-hashtag
    keycap-*=keycap-asterisk red-triangle-pointed-up=red-triangle
    """,
    )
)


@dataclasses.dataclass(frozen=True)
class Concept:
    """One emoji of the Unicode standard, independent of the vendor."""

    key: str  # lower-case code points without FE0F, "1f468-200d-1f680"
    name: str  # CLDR short name, lower case
    keywords: tuple[str, ...]  # CLDR keywords that are not already words of the name
    group: str
    subgroup: str


@dataclasses.dataclass(frozen=True)
class Picture:
    style: str
    concept: Concept
    jpeg: bytes

    @property
    def id(self) -> str:
        return f"{self.style}/{self.concept.key}"


def key_of(code_points: str) -> str:
    """'1F468-200D-2708-FE0F' -> '1f468-200d-2708', the spelling that all vendors share."""
    parts = code_points.lower().split("-")
    return "-".join(part for part in parts if part != VARIATION_SELECTOR)


def read_concepts(archive: pathlib.Path) -> dict[str, Concept]:
    """Key -> concept in CLDR order, without skin-tone variants."""
    files = artwork.members(archive, r"package/((?:en/data|meta/groups)\.json)")
    meta = json.loads(files["meta/groups.json"])
    concepts = {}
    for entry in sorted(json.loads(files["en/data.json"]), key=lambda e: e.get("order", 0)):
        if entry.get("group", COMPONENT) == COMPONENT:  # regional indicators have no group at all
            continue
        name = entry["label"].lower()
        in_name = {name, *re.findall(r"\w+", name)}
        tags = [tag.lower() for tag in entry.get("tags", ())]
        concept = Concept(
            key=key_of(entry["hexcode"]),
            name=name,
            keywords=tuple(tag for tag in tags if tag not in in_name),
            group=meta["groups"][str(entry["group"])].replace("-", " & "),
            subgroup=meta["subgroups"][str(entry["subgroup"])].replace("-", " "),
        )
        concepts[concept.key] = concept
    return concepts


def captions(concept: Concept, rng: random.Random) -> list[str]:
    """The name, then the name with keywords and categories.

    Training draws one at random. All but the last begin with the name, so that a text tower of ten
    tokens reads it; keyword subsets differ between vendors. A concept without keywords has fewer
    captions.
    """
    texts = [concept.name]
    for _ in range(KEYWORD_CAPTIONS):
        count = min(rng.randint(2, 4), len(concept.keywords))
        texts.append(", ".join([concept.name, *rng.sample(concept.keywords, count)]))
    texts.append(f"{concept.name}, {concept.subgroup}")
    texts.append(f"{concept.subgroup}, {concept.group}: {concept.name}")
    return list(dict.fromkeys(texts))


def to_jpeg(image: bytes) -> bytes:
    """PNG with alpha -> JPEG on white. Full chroma: at 64 pixels, halved chroma smears outlines."""
    flat = artwork.on_white(image)
    flat = flat.reduce(flat.width // SIZE)
    if flat.size != (SIZE, SIZE):
        raise UserError(f"a picture is {flat.size}, not {SIZE} pixels a side or a multiple")
    out = io.BytesIO()
    flat.convert("RGB").save(out, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return out.getvalue()


def fluent_svg(icons: dict, name: str) -> str | None:
    """An Iconify body in the frame that Iconify would give it, or None if there is no such icon."""
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"].get(alias.get("parent", name))
    if icon is None:
        return None
    return artwork.iconify_svg(icon, icons, SIZE, flip=bool(alias.get("hFlip")))


def read_fluent(archive: pathlib.Path, concepts: dict[str, Concept]) -> dict[str, str]:
    icons = json.loads(artwork.members(archive, r"package/(icons\.json)")["icons.json"])
    drawings = {}
    for concept in concepts.values():
        plain = unicodedata.normalize("NFKD", concept.name).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^a-z0-9#*]+", "-", plain.replace(".", "")).strip("-")
        # CLDR's "mage" is Fluent's "person-mage", and so are seven more
        for name in (FLUENT_NAMES.get(slug, slug), f"person-{slug}"):
            if svg := fluent_svg(icons, name):
                drawings[concept.key] = svg
                break
    return drawings


def read_style(style: str, archive: pathlib.Path, concepts: dict[str, Concept]) -> list[Picture]:
    """All pictures of one vendor whose key is a concept, in the order of the concepts."""
    drawings: dict[str, str] | dict[str, bytes]
    if style in ("noto", "twemoji"):  # the folders, unlike the sheets, hold no other vendor's
        pngs = artwork.members(archive, r"package/img/\w+/64/([0-9a-f-]+)\.png")
        drawings = {key_of(name): png for name, png in pngs.items()}
    elif style == "openmoji":
        svgs = artwork.members(archive, r"package/color/svg/([0-9A-F-]+)\.svg")
        drawings = {key_of(name): svg.decode() for name, svg in svgs.items()}
    else:
        drawings = read_fluent(archive, concepts)
    pictures = []
    todo = [c for key, c in concepts.items() if key in drawings and (style, key) not in WRONG]
    for concept in tqdm(todo, f"{style:12}", unit=" pictures"):
        drawing = drawings[concept.key]
        png = artwork.render(drawing, SIZE * OVERSAMPLE) if isinstance(drawing, str) else drawing
        pictures.append(Picture(style, concept, to_jpeg(png)))
    return pictures


def split(pictures: list[Picture], fraction: float, seed: int) -> dict[str, list[Picture]]:
    """Splits by vendor, then holds random pictures out.

    A concept keeps a picture in train, and a picture that occurs twice is not held out: OpenMoji's
    cook and man cook are one drawing, Fluent's tongue is in both of its styles.
    """
    ours = [p for p in pictures if p.style != HELDOUT_STYLE]
    random.Random(seed).shuffle(ours)  # shards are then mixed, whatever a reader shuffles
    left = collections.Counter(p.concept.key for p in ours)
    drawn = collections.Counter(p.jpeg for p in ours)
    wanted = round(fraction * len(ours))
    heldout: list[Picture] = []
    train: list[Picture] = []
    for picture in ours:
        eligible = left[picture.concept.key] > 1 and drawn[picture.jpeg] == 1
        if len(heldout) < wanted and eligible:
            left[picture.concept.key] -= 1
            heldout.append(picture)
        else:
            train.append(picture)
    vendor = [p for p in pictures if p.style == HELDOUT_STYLE]
    random.Random(seed).shuffle(vendor)  # so that the first n are a fair sample
    return {"train": train, "heldout_pictures": heldout, "heldout_vendor": vendor}


def describe(concepts: list[Concept], out: pathlib.Path, tfds):
    """The metadata of TFDS: features, class names, folder."""
    groups = list(dict.fromkeys(c.group for c in concepts))
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="jpeg"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "id": tfds.features.Text(),
            "style": tfds.features.Text(),
            "concept": tfds.features.ClassLabel(names=[c.name for c in concepts]),
            "group": tfds.features.ClassLabel(names=groups),
        }
    )
    identity = tfds.core.DatasetIdentity(
        name="emoji", version=tfds.core.Version(VERSION), data_dir=str(out), module_name="emoji"
    )
    return tfds.core.DatasetInfo(
        builder=identity,
        features=features,
        description="Emoji by several vendors with their CLDR names; see README.md beside it.",
        license="pictures: Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT, by `style`; names: MIT",
        disable_shuffling=True,  # the order on disk is the shuffled one
    )


def write(splits: dict[str, list[Picture]], concepts: list[Concept], out: pathlib.Path, seed: int):
    """Writes TFRecord shards and TFDS metadata into `out`, replacing what was there."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with quiet.stderr():
        import tensorflow as tf
        import tensorflow_datasets as tfds

        tf.config.set_visible_devices([], "GPU")
    shutil.rmtree(out, ignore_errors=True)  # or shards of an older, longer split would stay
    out.mkdir(parents=True)
    info = describe(concepts, out, tfds)
    per_shard = -(-len(splits["train"]) // TRAIN_SHARDS)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=per_shard)
    writer.initialize_splits(list(splits))
    for name, pictures in splits.items():
        examples = [
            {
                "image": p.jpeg,
                "captions": captions(p.concept, random.Random(f"{seed}/{p.id}")),
                "id": p.id,
                "style": p.style,
                "concept": p.concept.name,
                "group": p.concept.group,
            }
            for p in pictures
        ]
        writer.add_examples({name: examples})  # at once: each call rewrites the metadata
    writer.close_all()
    for shard in out.glob("*.tfrecord-*"):
        rewrite(shard, tf)


def rewrite(shard: pathlib.Path, tf):
    """Sorts the fields of each record; protobuf orders them differently in each process."""
    records = [
        tf.train.Example.FromString(record).SerializeToString(deterministic=True)
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
    ]
    with tf.io.TFRecordWriter(str(shard)) as file:
        for record in records:
            file.write(record)


def report(splits: dict[str, list[Picture]], out: pathlib.Path) -> str:
    """The table of the data card, and the size of the dataset."""
    rows: list[tuple[object, ...]] = [("style", *splits, "total")]
    rows.append(tuple("---" for _ in rows[0]))
    for style in PACKAGES:
        counts = [sum(p.style == style for p in pictures) for pictures in splits.values()]
        rows.append((style, *counts, sum(counts)))
    concepts = len({p.concept.key for pictures in splits.values() for p in pictures})
    rows.append(("all", *map(len, splits.values()), concepts))
    table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    return f"\n{table}\n\n{size:.1f} MB in {out}"


def build(out: pathlib.Path, cache: pathlib.Path, seed: int, heldout: float) -> None:
    """Fetches the packages, draws all pictures and writes the dataset."""
    packages = [NAMES_PACKAGE, *PACKAGES.values()]
    archives = {
        package: artwork.fetch(package, cache)
        for package in tqdm(packages, "packages", unit=" packages")
    }
    concepts = read_concepts(archives[NAMES_PACKAGE])
    pictures = [
        picture
        for style, package in PACKAGES.items()
        for picture in read_style(style, archives[package], concepts)
    ]
    drawn = {p.concept.key for p in pictures}
    classes = [c for c in concepts.values() if c.key in drawn]
    splits = split(pictures, heldout, seed)
    write(splits, classes, out / VERSION, seed)
    cli.say(report(splits, out / VERSION))


def main(argv: list[str]) -> None:
    """Builds the dataset and prints the table of its card."""
    del argv
    build(pathlib.Path(OUT.value), pathlib.Path(CACHE.value), SEED.value, HELDOUT.value)


if __name__ == "__main__":
    cli.run(main, needs_config=False)
