"""Exported towers run elsewhere and give the model's embeddings."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipa_jax
from clipa_jax.convert import export, requirements
from clipa_jax.errors import UserError
from clipa_jax.weights import npz
from tests.helpers import random_clip

ROOT = Path(__file__).parents[2]
CLIENTS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
NAMES = ["a red apple", "a green tree"]
# What a client must not need.
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'clipa_jax', 'torch')))\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = random_clip.config(input__res=32)
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    npz.write(path, random_clip.weights(config))
    return path, config


@pytest.mark.parametrize(
    ("client", "folder"), [(CLIENTS[0], "exported"), (CLIENTS[1], "exported_onnx")]
)
def test_the_clients_of_the_page_give_the_logits_of_the_model(weights, tmp_path, client, folder):
    path, config = weights
    write = requirements.load("onnx").write if "onnx" in folder else export.stablehlo
    report = export.export(str(path), tmp_path / folder, write, config)
    assert report["parity"]["image"]["max_abs"] < 1e-5
    assert report["parity"]["text"]["max_abs"] < 1e-5
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + client], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    logits = np.array(json.loads(re.sub(r"\s+", ",", done.stdout.strip().replace("[ ", "["))))
    model = clipa_jax.load(str(path), config)
    ours = model.logit_scale * model.encode_image([picture]) @ model.encode_text(NAMES).T
    np.testing.assert_allclose(logits, ours, atol=1e-5)


def test_an_export_that_differs_leaves_no_folder(weights, tmp_path):
    path, config = weights

    def wrong(folder, model, leaves, config):
        image, text = export.stablehlo(folder, model, leaves, config)
        return lambda x: -image(x), text

    with pytest.raises(UserError, match="image embeddings of the two sides differ"):
        export.export(str(path), tmp_path / "out", wrong, config)
    assert list(tmp_path.iterdir()) == []


def test_an_architecture_that_open_clip_lacks_is_refused_for_onnx(weights, tmp_path):
    path, config = weights
    config = config.copy_and_resolve_references()
    config.model.text.pool = "gap"
    with pytest.raises(UserError, match="gap"):
        export.export(str(path), tmp_path / "out", requirements.load("onnx").write, config)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "different builds"),
        ("import no_such_package", "no_such_package is not installed"),
    ],
)
def test_builds_that_do_not_fit_or_are_missing_get_a_sentence(tmp_path, body, sentence):
    """A fresh process whose open_clip cannot be imported."""
    (tmp_path / "open_clip.py").write_text(body)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.insert(1, {str(ROOT)!r})\n"
    code += "from clipa_jax.convert import requirements; requirements.load('convert')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert sentence in done.stderr.splitlines()[-1]
