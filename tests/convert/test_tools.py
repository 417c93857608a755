"""The command lines, as users call them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import clipa_jax
from clipa_jax.convert import convert
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.weights import npz, open_clip_folder, rules
from tests.helpers import random_clip

CONFIG = """
from clipa_jax.config import recipes


def get_config():
    c = recipes.load("demo/pretrain")
    c.model.text.pool = "last"
    c.model.image.depth = 1
    return c
"""


def test_there_and_back_by_the_command_lines(tmp_path):
    config = random_clip.config(input__res=32, model__text__vocab_size=2_048)
    leaves = random_clip.weights(config)
    npz.write(tmp_path / "x.npz", leaves)
    (tmp_path / "stage.py").write_text(CONFIG)
    out = tmp_path / "torch"
    to_torch = (
        "tools/convert_to_torch.py",
        f"--checkpoint={tmp_path}/x.npz",
        f"--config={tmp_path}/stage.py",
        "--config.input.text_len=12",
        f"--out={out}",
    )
    from_torch = (
        "tools/convert_from_torch.py",
        f"--checkpoint={out}",
        f"--out={tmp_path}/back.npz",
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.helpers.run_tools",
            *to_torch,
            "--",
            *from_torch,
            "--",
            *from_torch,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr.count("image embeddings: largest difference") == 2, done.stderr
    # The third run finds the result of the second.
    last = f"error: {tmp_path}/back.npz exists already; move it away or choose another --out"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, last)
    assert json.loads((out / "parity.json").read_text())["text"]["max_abs"] < 1e-4
    back = npz.read(tmp_path / "back.npz")
    assert back.keys() == leaves.keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(back[name], leaf, err_msg=name)
    assert json.loads((tmp_path / "back.parity.json").read_text())["image"]["max_abs"] < 1e-4
    model = clipa_jax.load(str(tmp_path / "back.npz"))  # its config lies beside it
    assert model.encode_text("red heart").shape == (1, 128)


def test_a_state_dict_of_torch_save_comes_back_exactly(tmp_path, exported):
    _, leaves, out = exported
    state = {key: torch.from_numpy(x.copy()) for key, x in rules.to_open_clip(leaves).items()}
    table = open_clip_folder.sincos_table(16, 96)[0]
    state["visual.positional_embedding"] = torch.from_numpy(table)
    (tmp_path / open_clip_folder.CONFIG).write_text((out / open_clip_folder.CONFIG).read_text())
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch_3.pt")
    convert.from_torch(tmp_path / "epoch_3.pt", tmp_path / "back.npz")
    back = npz.read(tmp_path / "back.npz")
    assert back.keys() == leaves.keys()
    assert all(np.array_equal(back[name], leaf) for name, leaf in leaves.items())


def test_a_state_dict_alone_needs_the_name_of_its_model(tmp_path):
    torch.save({"logit_scale": torch.zeros(())}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"no open_clip_config\.json in .*--model="):
        convert.from_torch(tmp_path / "x.pt", tmp_path / "x.npz")
    with pytest.raises(CheckpointError, match="open_clip knows no model 'ViT-L-14-CLIPPA'"):
        convert.from_torch(tmp_path / "x.pt", tmp_path / "x.npz", "ViT-L-14-CLIPPA")
    with pytest.raises(CheckpointError, match=r"LayerNorm_0/bias: missing, expected \(1024,\)"):
        convert.from_torch(tmp_path / "x.pt", tmp_path / "x.npz", "ViT-L-14-CLIPA")
    with pytest.raises(CheckpointError, match=r"must end in \.npz"):
        convert.from_torch(tmp_path / "x.pt", tmp_path / "x")


def test_results_are_never_overwritten(tmp_path, exported):
    config, _, out = exported
    with pytest.raises(DataError, match="exists already; move it away or choose another --out"):
        convert.to_torch(str(out), tmp_path, config)
    (tmp_path / "x.npz").touch()
    with pytest.raises(DataError, match="exists already; move it away or choose another --out"):
        convert.from_torch(out, tmp_path / "x.npz")
