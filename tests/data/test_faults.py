"""What the world sends: each fault is planted, and what becomes of it is told (docs/data.md).

n samples of a file; every fault stands among good samples, which keep their places.
"""

import io
import itertools
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clipa_jax.data import bad_samples, map_chunk, pipeline, reading, robust_map, sources
from clipa_jax.data.sources import tar
from clipa_jax.errors import DataError
from clipa_jax.preprocess import header, registry
from tests.data.conftest import numbers, sample, settings, write_tfds, write_tfrecords
from tests.helpers import writers

RNG = np.random.default_rng(0)
PHOTO = np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[..., None] % 256
PHOTO = np.broadcast_to(PHOTO, (40, 60, 3)).astype(np.uint8) // np.array([1, 2, 3], np.uint8)


def encoded(kind: str, image=PHOTO, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb_png(side: int) -> bytes:
    """A PNG of side x side grey pixels, of which it has a few rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * 3)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def bomb_jpeg(side: int) -> bytes:
    """A small JPEG whose header says side x side."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def bomb_gif(side: int) -> bytes:
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def bomb_webp(width: int) -> bytes:
    """The largest that WebP can tell, as an extended header."""
    size = (width - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def garbled(data: bytes) -> bytes:
    """The same with its middle overwritten."""
    middle = len(data) // 2
    return data[:middle] + RNG.integers(0, 256, 40, np.uint8).tobytes() + data[middle + 40 :]


def animation(kind: str) -> bytes:
    other = Image.fromarray(255 - PHOTO)
    return encoded(kind, save_all=True, append_images=[other], duration=10, lossless=True)


def bmp(header: bytes, pixels: np.ndarray) -> bytes:
    """A BMP of these headers behind the first one, and rows of pixels as they are stored."""
    begin = 14 + len(header)
    return (
        b"BM" + struct.pack("<IHHI", begin + pixels.nbytes, 0, 0, begin) + header + pixels.tobytes()
    )


def bmp_header(width: int, height: int, bits: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)


def bmp_of_32_bits() -> bytes:
    """Its fourth byte is unused, and 0."""
    return bmp(
        bmp_header(60, 40, 32), np.dstack([PHOTO[::-1, :, ::-1], np.zeros_like(PHOTO[..., :1])])
    )


def bmp_of_16_bits() -> bytes:
    red, green, blue = np.moveaxis(PHOTO[::-1].astype(np.uint16) >> 3, -1, 0)
    return bmp(bmp_header(60, 40, 16), red << 10 | green << 5 | blue)


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


GREY16 = Image.fromarray((PHOTO[..., 0].astype(np.uint16) << 8) + 77)
CMYK = Image.fromarray(PHOTO).convert("CMYK")
ALPHA = Image.fromarray(np.dstack([PHOTO, np.full((40, 60), 255, np.uint8)]))

HALF = Image.fromarray(
    np.dstack([PHOTO, np.repeat([[0], [255]], 20, 0).repeat(60, 1)]).astype(np.uint8)
)
PALETTE = Image.fromarray(PHOTO).quantize(15)

GOOD = {
    "grey JPEG": encoded("JPEG", PHOTO[..., 0]),
    "CMYK JPEG": encoded("JPEG", CMYK),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "grey PNG": encoded("PNG", PHOTO[..., 0]),
    "PNG with alpha": encoded("PNG", ALPHA),
    "16-bit PNG": encoded("PNG", GREY16),
    "PNG with a palette": encoded("PNG", Image.fromarray(PHOTO).quantize(16)),
    "WebP": encoded("WEBP"),
    "WebP with alpha": encoded("WEBP", ALPHA),
    "animated WebP": animation("WEBP"),
    "animated GIF": animation("GIF"),
    "BMP": encoded("BMP"),
    "32-bit BMP": bmp_of_32_bits(),
    "16-bit BMP": bmp_of_16_bits(),
    "BMP with its first row on top": bmp(bmp_header(60, -40, 24), PHOTO[..., ::-1]),
    "BMP with an old header": bmp(struct.pack("<IHHHH", 12, 60, 40, 1, 24), PHOTO[::-1, :, ::-1]),
    "BMP with a palette": encoded("BMP", PALETTE),
    "BMP of 1 bit": encoded("BMP", Image.fromarray(PHOTO).convert("1")),
    "transparent GIF": encoded("GIF", PALETTE, transparency=PALETTE.getpixel((0, 0))),
    "gray PNG with alpha": encoded("PNG", HALF.convert("LA")),
    "PNG with a transparent part": encoded("PNG", HALF),
    "PNG with a transparent palette entry": encoded(
        "PNG", PALETTE, transparency=PALETTE.getpixel((0, 0))
    ),
    "PNG with a transparent color": encoded("PNG", transparency=tuple(PHOTO[0, 0].tolist())),
    "WebP with a transparent part": encoded("WEBP", HALF, lossless=True),
    "JPEG rotated by EXIF": rotated_by_exif(),
    "1x1 JPEG": encoded("JPEG", PHOTO[:1, :1]),
    "1x1 PNG": encoded("PNG", PHOTO[:1, :1]),
    "one row": encoded("PNG", PHOTO[:1]),
    "JPEG with bytes behind it": encoded("JPEG") + b"more",
}
BAD = {
    **{f"truncated {k}": (encoded(k)[: len(encoded(k)) // 2], "decode") for k in ("JPEG", "PNG")},
    "truncated WebP": (encoded("WEBP")[:150], "decode"),
    "truncated GIF": (encoded("GIF")[:600], "decode"),
    "JPEG cut in its header": (encoded("JPEG")[:100], "decode"),
    "PNG of damaged data": (garbled(encoded("PNG")), "decode"),
    "WebP of damaged data": (encoded("WEBP")[:60] + b"\xff" * 200, "decode"),
    "text": (b"<html>404</html>", "decode"),
    "TIFF": (encoded("TIFF"), "decode"),
    "empty": (b"", "missing_key"),
    "30,000 x 30,000 PNG": (bomb_png(30_000), "too_large"),
    "30,000 x 30,000 JPEG": (bomb_jpeg(30_000), "too_large"),
    "30,000 x 30,000 GIF": (bomb_gif(30_000), "too_large"),
    "16,384 x 16,384 WebP": (bomb_webp(16_384), "too_large"),
    "PNG of 2^32 - 1 a side": (bomb_png(30_000)[:16] + b"\xff" * 8 + b"\0" * 20, "too_large"),
}


def on_white(picture: Image.Image) -> np.ndarray:
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255,) * 4)
    return np.asarray(Image.alpha_composite(white, layer).convert("RGB"))


@pytest.mark.parametrize("name", GOOD)
def test_decoded_as_pillow_does(name):
    with Image.open(io.BytesIO(GOOD[name])) as picture:
        picture.seek(0)
        expected = PHOTO_OF_16 if name == "16-bit PNG" else on_white(picture)
    found = registry.build("decode")({"image": tf.constant(GOOD[name])})["image"].numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < (2 if "JPEG" in name else 1)
    assert tuple(header.size(tf.constant(GOOD[name])).numpy()) == expected.shape[:2]


PHOTO_OF_16 = np.repeat(PHOTO[..., :1], 3, -1)


def write_one_by_one(folder: Path, images: list[bytes], captions=None) -> str:
    rows = [sample(number) for number in range(len(images))]
    for number, image in enumerate(images):
        rows[number]["image"] = image
        if captions is not None:
            rows[number]["captions"] = captions[number]
    return write_tfrecords(folder, rows, (len(rows),))


def counted(spec, reasons, *, percent=100.0, **changes):
    """The reasons of samples in the order of the file, and what the log names."""
    source = sources.open(spec, "train")
    size = source.num_examples
    preprocess = changes.pop("preprocess", "decode|inception_crop(8)|choose_caption")
    process, _ = robust_map.chunk_function(
        source, preprocess, size=size, seed=0, keep=("image", "tokens"), **changes
    )
    share = reading.Share(size, 0, size, size)
    done = process(reading.once(source, share).take(1)).get_single_element()
    found = [bad_samples.REASONS[reason] for reason in done[map_chunk.REASON].numpy()]
    assert found == reasons
    return done


def test_every_picture_at_once(tmp_path):
    """Good and bad ones side by side, through the fused op that training uses."""
    images = [*GOOD.values(), *(image for image, _ in BAD.values())]
    reasons = [""] * len(GOOD) + [reason for _, reason in BAD.values()]
    done = counted(write_one_by_one(tmp_path, images), reasons)
    assert done["image"].shape == (len(images), 8, 8, 3)


def test_a_bad_sample_changes_no_other(tmp_path):
    """A chunk of good samples is prepared in one loop, one with a bad sample one by one."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(4)]
    images = [encoded("PNG", picture) for picture in pictures]
    quick = counted(write_one_by_one(tmp_path / "a", images), [""] * 4)
    careful = counted(write_one_by_one(tmp_path / "b", [*images, b"x"]), [""] * 4 + ["decode"])
    np.testing.assert_array_equal(careful["image"][:4], quick["image"])
    np.testing.assert_array_equal(careful["image"][4], quick["image"][3])


def test_only_a_chunk_with_a_bad_sample_is_prepared_twice(tmp_path, monkeypatch):
    looks = []

    def look(sample):
        def count(image):
            looks.append(1)
            return image

        image = tf.numpy_function(count, [sample["image"]], tf.uint8)
        return {**sample, "image": tf.ensure_shape(image, (8, 8, 3))}

    monkeypatch.setitem(registry.OPS, "look", registry.Op(lambda: look))
    spec = write_one_by_one(tmp_path, [encoded("PNG")] * 7 + [b"x"])
    source, share = sources.open(spec, "train"), reading.Share(4, 0, 4, 4)
    process, _ = robust_map.chunk_function(
        source, "decode|resize(8)|look", size=4, seed=0, keep=("image",)
    )
    done = list(process(reading.once(source, share).take(1)))
    assert len(done) == 1 and len(looks) == 4
    done = list(process(reading.once(source, share).skip(1).take(1)))
    assert len(done) == 1 and len(looks) == 4 + 3 + 3
    assert done[0][map_chunk.REASON].numpy().tolist() == [
        0,
        0,
        0,
        bad_samples.REASONS.index("decode"),
    ]


def test_the_limit_of_pixels(tmp_path):
    spec = write_one_by_one(tmp_path, [encoded("PNG"), encoded("JPEG"), encoded("PNG", PHOTO[1:])])
    counted(spec, ["too_large", "too_large", ""], max_pixels=40 * 60 - 1)
    config = settings(spec, max_pixels=40 * 60 - 1, batch_size=3, lanes=1, max_skip_percent=99.0)
    data = pipeline.train(config, seed=0)
    next(data.start())
    assert data.skipped() == {"too_large": 2}


def test_captions(tmp_path):
    captions = [
        "",
        " \t\n",
        ["", " "],
        None,
        b"\xff\xfe bad \xe9",
        "x" * 200_000,
        ["", "second"],
        "a\0b",
    ]
    spec = write_one_by_one(tmp_path, [sample(0)["image"]] * len(captions), captions)
    blank = "empty_caption"
    vocab = Path(__file__).parents[2] / "data" / "emoji" / "vocab.txt"
    ops = f"decode|resize(8)|choose_caption|tokenize(8, '{vocab}')"
    done = counted(spec, [blank] * 4 + [""] * 4, preprocess=ops)
    assert (done["tokens"].numpy()[4:, 0] > 0).all()


def test_mended_captions():
    texts = [b"caf\xc3\xa9", b"caf\xe9 bar", b"\xff\xfe", "é".encode() * bad_samples.CAPTION_BYTES]
    found = [text.decode() for text in bad_samples.valid_utf8(tf.constant(texts)).numpy()]
    assert found[:3] == ["café", "caf\ufffd bar", "\ufffd\ufffd"]
    assert found[3] == "é" * (bad_samples.CAPTION_BYTES // 2)


def test_missing_keys_in_every_format(tmp_path):
    rows = [sample(number) for number in range(5)]
    rows[1]["image"], rows[3]["captions"] = None, None
    expected = ["", "missing_key", "", "empty_caption", ""]
    counted(write_tfrecords(tmp_path / "a", rows, (5,)), expected)
    counted(writers.write_tars(tmp_path / "b", rows, (5,)), expected)
    flat = [{**row, "captions": row["captions"] or []} for row in rows]
    counted(writers.write_parquet(tmp_path / "c", flat, (5,)), expected)
    counted(writers.write_parquet(tmp_path / "d", flat, (5,), nested=False), expected)
    table = tmp_path / "e" / "t.jsonl"
    table.parent.mkdir()
    (table.parent / "a.png").write_bytes(rows[0]["image"])
    names = ["a.png", "gone.png", "a.png", "a.png", None]
    lines = [{"file_name": n, "caption": "" if i == 3 else "c"} for i, n in enumerate(names)]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counted(f"folder:{table}", ["", "missing_key", "", "empty_caption", "missing_key"])


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def offsets(path: Path) -> list[int]:
    return sources.tfrecord.offsets(str(path)).tolist()


@pytest.mark.parametrize("kind", ["tfrecord", "tfds"])
def test_bad_checksums_cost_their_own_records(tmp_path, kind):
    rows = [sample(number) for number in range(150)]
    if kind == "tfds":
        spec = write_tfds(tmp_path / "tiny" / "1.0.0", {"train": rows}, (150,))
    else:
        spec = write_tfrecords(tmp_path, rows, (150,))
    path = next(tmp_path.rglob("*.tfrecord*"))
    begins = offsets(path)
    for number in (3, 70, 71, 149):
        damage(path, begins[number] + 40)
    source = sources.open(spec, "train")
    records = list(reading.everything(source))
    assert [n for n, record in enumerate(records) if record == [b""]] == [3, 70, 71, 149]
    assert [source.parse(records[n])["id"] for n in (0, 69, 72, 148)] == [
        f"id{n}".encode() for n in (0, 69, 72, 148)
    ]
    # From the middle too, where the damaged ones before do not count.
    part = source.read(*(tf.constant(n, tf.int64) for n in (0, 68, 5)))
    assert [bool(record[0]) for record in part.as_numpy_iterator()] == [1, 1, 0, 0, 1]


def test_a_damaged_length_hides_what_follows(tmp_path, caplog):
    spec = write_tfrecords(tmp_path, [sample(number) for number in range(9)], (9,))
    damage(tmp_path / "00000.tfrecord", offsets(tmp_path / "00000.tfrecord")[5] + 2)
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tfrecord is truncated or damaged in record 5" in caplog.text


def test_a_truncated_tfrecord(tmp_path, caplog):
    spec = write_tfrecords(tmp_path, [sample(number) for number in range(6)], (6,))
    path = tmp_path / "00000.tfrecord"
    path.write_bytes(path.read_bytes()[:-50])
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tfrecord is truncated or damaged in record 5" in caplog.text


def test_a_truncated_tar(tmp_path, caplog):
    rows = [sample(number) for number in range(6)]
    spec = writers.write_tars(tmp_path, rows, (6,))
    path = tmp_path / "00000.tar"
    with path.open("rb") as file:
        members = list(tar.members(file, path.stat().st_size))
    path.write_bytes(path.read_bytes()[: members[-3].offset + 10])  # inside the last picture
    counted(spec, [""] * 5 + ["unreadable"])
    assert "00000.tar is truncated inside sample 5" in caplog.text


def test_a_damaged_tar(tmp_path, caplog):
    spec = writers.write_tars(tmp_path, [sample(number) for number in range(6)], (6,))
    path = tmp_path / "00000.tar"
    with path.open("rb") as file:
        members = list(tar.members(file, path.stat().st_size))
    damage(path, members[9].name_offset + 1)  # the first header of the fourth sample
    # One sample stands for all that cannot be found any more.
    counted(spec, [""] * 3 + ["unreadable"])
    assert "00000.tar is damaged behind sample 3" in caplog.text


def test_a_tar_that_changes_during_the_run(tmp_path):
    spec = writers.write_tars(tmp_path, [sample(number) for number in range(6)], (6,))
    source = sources.open(spec, "")
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes()[:4000])
    found = [bool(record.numpy()[0]) for record in reading.everything(source)]
    assert found[0] and not any(found[2:])
    path.unlink()
    assert [any(record.numpy()) for record in reading.everything(source)] == [False] * 6


def test_empty_shards_among_others(tmp_path):
    rows = [sample(number) for number in range(8)]
    (tmp_path / "a").mkdir()
    spec = write_tfrecords(tmp_path / "r", rows, (0, 5, 0, 3))
    batches = pipeline.train(settings(spec, batch_size=4, lanes=2), seed=0).start()
    two = [numbers(batch["image"]) for batch, _ in itertools.islice(batches, 2)]
    assert sorted(sum(two, [])) == list(range(8))
    writers.write_tars(tmp_path / "t", rows, (0, 5, 0, 3))
    (tmp_path / "t" / "00000.tar").write_bytes(b"")  # no bytes at all
    assert sources.open(f"webdataset:{tmp_path}/t/*.tar", "").num_examples == 8


def test_the_first_few_are_named_and_too_many_stop_the_run(tmp_path, caplog):
    rows = [sample(number) for number in range(40)]
    for number in range(0, 40, 4):
        rows[number]["image"] = b"junk"
    spec = writers.write_tars(tmp_path, rows, (40,))
    config = settings(spec, batch_size=8, lanes=1, shuffle_window=1, max_skip_percent=20.0)
    with pytest.raises(
        DataError, match=r"max_skip_percent=20.0.*'decode': 10.*sample 0 \(decode\)"
    ):
        list(itertools.islice(pipeline.train(config, seed=0).start(), 5))
    named = [r.getMessage() for r in caplog.records if r.getMessage().startswith("skipped")]
    assert len(named) == 5 and f"{tmp_path}/00000.tar sample 4 (decode)" in named[1]


def test_a_member_beyond_all_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.webdataset, "_LARGEST", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for number, size in enumerate((10, 5000, 10)):
            writers.add(file, f"{number}.png", bytes(size + 1))
    found = reading.everything(sources.open(f"webdataset:{tmp_path}/a.tar", ""))
    assert [len(record.numpy()[0]) for record in found] == [11, 0, 11]
