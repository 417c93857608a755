"""The same pictures give the same scores from every layout that they may come in."""

import json

import numpy as np
import pytest

from clipa_jax.data import export, sources
from clipa_jax.evaluators.probes import LinearProbe
from clipa_jax.evaluators.retrieval import Retrieval
from clipa_jax.evaluators.zero_shot import ZeroShot
from tests.data.conftest import sample, write_tfds
from tests.evaluators.conftest import Model, make, values_of

COUNT, NAMES = 15, ("a", "b", "c")
SAMPLES = [sample(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Sources of the same pictures by layout, and where captions are."""
    root = tmp_path_factory.mktemp("layouts")
    tfds = write_tfds(root / "tiny" / "1.0.0", {"test": SAMPLES}, (COUNT,))
    opened = sources.open(tfds, "test", ("label",))
    options = {"label": "label", "templates": ["a {}"]}
    export.write(opened, root / "wds" / "mine", "test", kind="classification", **options)
    export.write(opened, root / "captions", "test", kind="retrieval")
    for number, one in enumerate(SAMPLES):
        folder = root / "folders" / NAMES[one["label"]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(one["image"])
        (root / f"{number:03d}.png").write_bytes(one["image"])
    images = [
        {
            "filename": f"{n:03d}.png",
            "split": "test",
            "sentences": [{"raw": t} for t in one["captions"]],
        }
        for n, one in enumerate(SAMPLES)
    ]
    (root / "captions.json").write_text(json.dumps({"images": images}))
    return {
        "tfds": (tfds, "test"),
        "clip_benchmark": (f"clip_benchmark:{root}/wds/mine", "test"),
        "class_folders": (f"class_folders:{root}/folders", "all"),
        "captions": (f"clip_benchmark:{root}/captions", "test"),
        "karpathy": (f"karpathy:{root}/captions.json", "test"),
    }


@pytest.fixture(scope="module")
def model():
    """Tells pictures by their red, which is ten times their number."""
    texts = [f"{form}{name}" for form in ("", "a ") for name in NAMES]
    texts += [caption for one in SAMPLES for caption in one["captions"]]
    return Model(texts, 10 * COUNT)


def evaluate(model, kind, where, **options):
    source, split = where
    context = model.context(preprocess_image="decode|resize(8)")
    options = {"source": source, "split": split, "batch_size": 8} | options
    return values_of(make(kind, context, name="x", **options), model.state)


def test_zero_shot(layouts, model):
    want = evaluate(model, ZeroShot, layouts["tfds"], label="label", templates=("a {}",))
    assert 0 < want["top1"] < 1
    # The webdataset brings its label, its names and its sentences.
    assert evaluate(model, ZeroShot, layouts["clip_benchmark"]) == pytest.approx(want)
    folders = evaluate(model, ZeroShot, layouts["class_folders"], templates=("a {}",))
    assert folders == pytest.approx(want)
    scores = model.image_NE[10 * np.arange(COUNT)]
    class_CE = np.stack([model.text_ME[model.texts[f"a {name}"]] for name in NAMES])
    assert want["top1"] == np.mean((scores @ class_CE.T).argmax(1) == np.arange(COUNT) % 3)


def test_retrieval(layouts, model):
    want = evaluate(model, Retrieval, layouts["tfds"])
    assert 0 < want["i2t_r5"] < 1
    for layout in ("captions", "karpathy"):
        assert evaluate(model, Retrieval, layouts[layout]) == pytest.approx(want)


def test_probes(layouts, model):
    options = {"train_split": "test", "label": "label", "l2": 0.01}
    want = evaluate(model, LinearProbe, layouts["tfds"], **options)
    assert 0.5 < want["top1"] <= 1
    options |= {"label": "cls"}
    assert evaluate(model, LinearProbe, layouts["clip_benchmark"], **options) == pytest.approx(want)
