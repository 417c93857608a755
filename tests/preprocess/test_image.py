"""Image ops, against recorded numbers, PIL and float64 arithmetic."""

import colorsys
import io
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clipa_jax.errors import ConfigError
from clipa_jax.models import color_jitter
from clipa_jax.preprocess import fusion, registry

RECOLOR = jax.jit(color_jitter.apply)
GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(GOLDEN_FOLDER / "resized.npz")


def run(spec: str, image, seed=(1, 2), *, fuse=False) -> np.ndarray:
    """A preprocessing string on one picture."""
    sample = {"image": tf.constant(image), "seed": tf.constant(seed, tf.int64)}
    calls = fusion.fuse(registry.parse(spec)) if fuse else registry.parse(spec)
    result = registry.chain([registry.Step.of(call) for call in calls])(sample)
    return recolored({name: value.numpy()[None] for name, value in result.items()})[0]


def recolored(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The pictures of a batch as the model sees them, uint8 (B, R, R, C)."""
    return np.asarray(RECOLOR(batch)["image"])


def photo(height=120, width=160) -> np.ndarray:
    """Something smooth with edges and all colours."""
    y, x = np.mgrid[0:height, 0:width] / 30
    bands = [np.sin(x), np.cos(y + x / 2), np.sin(x * y / 3)]
    image = np.stack(bands, -1) * 90 + 128 + 30 * ((x + y) % 2 > 1)[..., None]
    return image.round().clip(0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def exact_resize(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with antialias in float64: triangles as wide as the reduction."""

    def weights(size_in: int, size_out: int) -> np.ndarray:
        step = size_in / size_out
        centre = (np.arange(size_out)[:, None] + 0.5) * step
        distance = np.abs(np.arange(size_in)[None] + 0.5 - centre) / max(step, 1)
        w = np.maximum(0, 1 - distance)
        return w / w.sum(1, keepdims=True)

    rows, columns = weights(image_HWC.shape[0], height), weights(image_HWC.shape[1], width)
    image_HWC = image_HWC.astype(np.float64)
    return np.einsum("oh,hwc,pw->opc", rows, image_HWC, columns, optimize=True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_resize_matches_the_released_code_and_is_closer_to_exact(number):
    image = GOLDEN[f"image_{number}"]
    ours = run("resize(84)", image).astype(int)
    released = GOLDEN[f"resize84_{number}"].astype(int)
    exact = exact_resize(image, 84, 84)
    assert np.abs(ours - released).max() <= 1
    assert np.abs(ours - exact).max() <= 0.501
    assert np.abs(ours - exact).mean() < np.abs(released - exact).mean()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_short_side_and_central_crop_match_the_released_code(number):
    ours = run("resize_small(84)|central_crop(84)", GOLDEN[f"image_{number}"]).astype(int)
    assert np.abs(ours - GOLDEN[f"resize_crop84_{number}"].astype(int)).max() <= 1


def formats() -> dict[str, tuple[bytes, np.ndarray]]:
    image = photo()
    rgb, grey = Image.fromarray(image), Image.fromarray(image).convert("L")
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(alpha))
    part = alpha[..., None] / 255
    on_white = image * part + 255 * (1 - part)
    greys = np.repeat(np.asarray(grey)[..., None], 3, -1)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return {
        "jpeg": (encode(rgb, "JPEG", quality=98, subsampling=0), image),
        "jpeg grey": (encode(grey, "JPEG", quality=98), greys),
        "jpeg cmyk": (encode(rgb.convert("CMYK"), "JPEG", quality=98), image),
        "png": (encode(rgb, "PNG"), image),
        "png grey": (encode(grey, "PNG"), greys),
        "png alpha": (encode(rgba, "PNG"), on_white),
        "png grey alpha": (
            encode(rgba.convert("LA"), "PNG"),
            greys * part + 255 * (1 - part),
        ),
        "png palette": (
            encode(rgb.quantize(256), "PNG"),
            np.asarray(rgb.quantize().convert("RGB")),
        ),
        "png 16 bit": (encode(sixteen, "PNG"), greys),
        "png 1 bit": (
            encode(grey.convert("1"), "PNG"),
            np.asarray(grey.convert("1").convert("RGB")),
        ),
        "gif": (encode(rgb.quantize(256), "GIF"), np.asarray(rgb.quantize().convert("RGB"))),
        "webp": (encode(rgb, "WEBP", lossless=True), image),
        "webp alpha": (encode(rgba, "WEBP", lossless=True, exact=True), on_white),
        "bmp": (encode(rgb, "BMP"), image),
        "bmp grey": (encode(grey, "BMP"), greys),
    }


@pytest.mark.parametrize("name", formats())
def test_decode(name):
    encoded, expected = formats()[name]
    image = run("decode", encoded)
    assert image.dtype == np.uint8 and image.shape == (120, 160, 3)
    assert np.abs(image.astype(float) - expected).mean() < (2.5 if "jpeg" in name else 0.51)
    small = run("decode|inception_crop(30)", encoded)
    apart = run("decode|inception_crop(30)", image=encoded)
    assert small.shape == (30, 30, 3)
    assert np.abs(small.astype(float) - apart).mean() < 4


def test_decode_of_the_smallest_picture():
    assert run(
        "decode|inception_crop(7)", encode(np.full((1, 1, 3), 9, np.uint8), "PNG")
    ).shape == (
        7,
        7,
        3,
    )


PHOTOS = {
    name: (GOLDEN_FOLDER / f"photo_{name}.jpg").read_bytes() for name in ("cat", "coffee", "rocket")
}
PHOTOS["portrait"] = (
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
).read_bytes()


def differences(encoded: bytes, size: int, seeds: int = 12) -> float:
    """Mean distance of fused crops to float64 arithmetic on the whole picture, in gray levels."""
    whole = run("decode", encoded)
    boxes = registry.build(f"read_size|draw_box({size})")
    found = []
    for number in range(seeds):
        seed = tf.constant((0, number), tf.int64)
        top, left, height, width = boxes({"image": encoded, "seed": seed})["_box"].numpy()
        box = whole[top : top + height, left : left + width]
        fused = run(f"decode|inception_crop({size})", encoded, seed=(0, number), fuse=True)
        found.append(np.abs(fused - exact_resize(box, size, size)).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("size", [32, 84])
@pytest.mark.parametrize("name", PHOTOS)
def test_fused_crop_is_near_the_exact_one(name, size):
    """`python -m tests.preprocess.test_image` prints the table of docs/performance.md."""
    assert differences(PHOTOS[name], size) <= 2


def test_crop_without_fusing_is_exact():
    encoded = PHOTOS["coffee"]
    whole = run("decode", encoded)
    boxes = registry.build("read_size|draw_box(84)")
    top, left, height, width = boxes({"image": encoded, "seed": tf.constant((1, 2), tf.int64)})[
        "_box"
    ].numpy()
    apart = run("decode|inception_crop(84)", encoded)
    exact = exact_resize(whole[top : top + height, left : left + width], 84, 84)
    assert np.abs(apart - exact).max() <= 0.51


def crop_statistics(spec: str, count: int = 400):
    """Areas, aspect ratios and centres of crops, read off a picture of coordinates."""
    height, width = 100, 200
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([y * 2, x, y * 0], -1).astype(np.uint8)
    areas, ratios, centres = [], [], []
    for number in range(count):
        crop = run(spec, image, seed=(0, number)).astype(float)
        rows, columns = crop[:, 0, 0] / 2, crop[0, :, 1]
        h = (rows[-1] - rows[0]) * len(rows) / (len(rows) - 1)
        w = (columns[-1] - columns[0]) * len(columns) / (len(columns) - 1)
        areas.append(h * w / (height * width))
        ratios.append(w / h)
        centres.append((rows.mean() / height, columns.mean() / width))
    return np.array(areas), np.array(ratios), np.array(centres)


def test_inception_crop_draws_boxes_as_asked():
    areas, ratios, centres = crop_statistics("inception_crop(20, area_min=10, area_max=50)")
    assert 0.09 < areas.min() < 0.14 and 0.40 < areas.max() < 0.53
    # Boxes lie on the grid of the reduction, here of up to 4 pixels.
    assert 0.70 < ratios.min() < 0.80 and 1.25 < ratios.max() < 1.43
    assert abs(np.log(ratios).mean()) < 0.03  # log-uniform: as often wide as high
    assert np.abs(centres.mean(0) - 0.5).max() < 0.05
    assert centres.std(0).min() > 0.05


def test_inception_crop_takes_the_whole_of_a_very_long_picture():
    image = photo(10, 200)
    whole = run("inception_crop(16, area_min=90)", image)
    np.testing.assert_array_equal(whole, run("resize(16)", image))


def test_random_ops_depend_on_the_seed_alone():
    image = photo()
    for spec in ("inception_crop(30)", "jitter(0.8, p=1.0)", "rotate(20)"):
        first = run(spec, image, seed=(1, 2))
        np.testing.assert_array_equal(first, run(spec, image, seed=(1, 2)))
        assert not np.array_equal(first, run(spec, image, seed=(1, 3)))
        assert not np.array_equal(first, run(spec, image, seed=(2, 2)))


def test_batched_ops_do_the_same_to_a_batch():
    one, batch = phases = fusion.phases("inception_crop(24)|flip_lr|jitter(0.6)|rotate(10)")
    samples = [
        {"image": tf.constant(photo()), "seed": tf.constant([4, number], tf.int64)}
        for number in range(6)
    ]
    drawn = fusion.draw(phases, tf.stack([sample["seed"] for sample in samples]))
    rows = [{key: value[row] for key, value in drawn.items()} for row in range(6)]
    parts = [one.function({"image": tf.constant(photo()), **row}) for row in rows]
    stacked = batch.function({key: tf.stack([part[key] for part in parts]) for key in parts[0]})
    assert set(stacked) == {"image", "color"}
    whole = registry.build("inception_crop(24)|flip_lr|jitter(0.6)|rotate(10)")
    for row, sample in zip(stacked["image"].numpy(), samples, strict=True):
        alone = whole(sample)["image"].numpy().astype(int)
        assert np.abs(row - alone).max() <= 1  # interpolation may round otherwise
    alone = np.stack([whole(sample)["color"] for sample in samples])
    np.testing.assert_allclose(stacked["color"], alone, rtol=1e-6, atol=1e-6)


def test_jitter_with_no_strength_changes_nothing():
    image = photo()
    np.testing.assert_array_equal(run("jitter(0.0, gray=0.0)", image), image)
    np.testing.assert_array_equal(run("jitter(0.9, p=0.0, gray=0.0)", image), image)


def test_gray_is_luma_and_as_frequent_as_asked():
    image = photo()
    luma = image @ np.array([0.299, 0.587, 0.114])
    gray = run("jitter(0.0, gray=1.0)", image)
    assert np.abs(gray - luma[..., None]).max() <= 0.51
    outs = [run("jitter(0.8, p=0.5, gray=0.3)", image, seed=(0, n)) for n in range(400)]
    is_gray = [np.ptp(out.astype(int), axis=-1).max() <= 1 for out in outs]
    same = [np.array_equal(out, image) for out in outs]
    assert abs(np.mean(is_gray) - 0.3) < 0.07
    assert abs(np.mean(same) - 0.5 * 0.7) < 0.07


def test_jitter_spreads():
    """One factor at a time: brightness, contrast, saturation and hue of a soft picture."""
    image = (photo() // 4 + 96).astype(np.uint8)  # far from 0 and 255, so that nothing is cut
    mean = image.mean((0, 1))

    def factors(spec, measure):
        return np.array([measure(run(spec, image, seed=(0, n))) for n in range(300)])

    bright = factors("jitter(0.4, 0, 0, 0, p=1.0, gray=0.0)", lambda x: x.mean() / image.mean())
    assert 0.59 < bright.min() < 0.63 and 1.37 < bright.max() < 1.41
    contrast = factors("jitter(0, 0.4, 0, 0, p=1.0, gray=0.0)", lambda x: x.std() / image.std())
    assert 0.6 < contrast.min() < 0.75 and 1.25 < contrast.max() < 1.41
    kept = run("jitter(0, 0.4, 0, 0, p=1.0, gray=0.0)", image).mean((0, 1))
    assert np.abs(kept - mean).max() < 0.6

    colour = np.full((4, 4, 3), (150, 110, 100), np.uint8)
    luma = colour[0, 0] @ np.array([0.299, 0.587, 0.114])
    hues = []
    for number in range(300):
        out = run("jitter(0, 0, 0, 0.08, p=1.0, gray=0.0)", colour, seed=(0, number))[0, 0]
        assert abs(out @ np.array([0.299, 0.587, 0.114]) - luma) < 1
        hues.append(colorsys.rgb_to_hsv(*out / 255)[0])
    start = colorsys.rgb_to_hsv(*colour[0, 0] / 255)[0]
    turned = (np.array(hues) - start + 0.5) % 1 - 0.5
    assert 0.05 < turned.max() < 0.12 and -0.12 < turned.min() < -0.05


def test_flip_and_rotate():
    image = photo(40, 40)
    outs = [run("flip_lr", image, seed=(0, n)) for n in range(100)]
    flipped = [np.array_equal(out, image[:, ::-1]) for out in outs]
    assert all(f or np.array_equal(out, image) for f, out in zip(flipped, outs, strict=True))
    assert 30 < sum(flipped) < 70
    np.testing.assert_array_equal(run("rotate(0.0)", image), image)
    turned = [run("rotate(30)", np.zeros((40, 40, 3), np.uint8), seed=(0, n)) for n in range(20)]
    assert all((out[18:22, 18:22] == 0).all() for out in turned)
    assert max(out[0, 0, 0] for out in turned) == 255
    # Against PIL, about the same centre and in both directions.
    disc = np.asarray(Image.fromarray(photo(41, 41)))
    angles = [np.abs(_angle(disc, run("rotate(20)", disc, seed=(0, n)))) for n in range(6)]
    assert max(angles) <= 20


def _angle(image: np.ndarray, turned: np.ndarray) -> float:
    options = np.arange(-30, 30.5, 0.5)
    middle = np.s_[10:31, 10:31]
    errors = []
    for angle in options:
        pil = Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR)
        errors.append(np.abs(np.asarray(pil)[middle].astype(float) - turned[middle]).mean())
    assert min(errors) < 1.5
    return float(options[int(np.argmin(errors))])


@pytest.mark.parametrize(
    "spec",
    [
        "resize(0)",
        "resize(8.5)",
        "inception_crop(8, area_min=0)",
        "inception_crop(8, area_min=60, area_max=50)",
        "inception_crop(8, aspect=(2, 1))",
        "jitter()",
        "jitter(0.1, 0.2)",
        "jitter(-1)",
    ],
)
def test_arguments_that_make_no_sense(spec):
    with pytest.raises(ConfigError):
        registry.build(spec)


if __name__ == "__main__":
    for number in (16, 32, 48, 64, 84, 112, 160, 224):
        row = {name: differences(encoded, number, 48) for name, encoded in PHOTOS.items()}
        print(f"{number:4}", *(f"{name} {value:.2f}" for name, value in row.items()))
