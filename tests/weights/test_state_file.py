"""state_dict files: safetensors without PyTorch, and files of torch.save."""

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from clipa_jax.errors import CheckpointError
from clipa_jax.weights import state_file


def test_half_precision_becomes_float32(tmp_path):
    tensors = {"a": np.array([1.5, -2.0], ml_dtypes.bfloat16), "b": np.array(3.0, np.float16)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    state = state_file.read(tmp_path / "x.safetensors")
    assert state["a"].dtype == state["b"].dtype == np.float32
    np.testing.assert_array_equal(state["a"], [1.5, -2.0])
    assert state["b"].shape == () and state["b"] == 3


def test_a_training_checkpoint_of_open_clip_is_read(tmp_path):
    tensor = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    torch.save({"epoch": 3, "state_dict": {"a": tensor}}, tmp_path / "epoch_3.pt")
    np.testing.assert_array_equal(state_file.read(tmp_path / "epoch_3.pt")["a"], [1.5, -2.0])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "step": 3},
        lambda state: {"state_dict": {f"module.{key}": x for key, x in state.items()}},
        lambda state: {f"_orig_mod.{key}": x for key, x in state.items()},
        # Lightning, with a model that was compiled in parts
        lambda state: {
            "pytorch-lightning_version": "2.5",
            "state_dict": {
                f"model.{key.replace('visual.', 'visual._orig_mod.')}": x
                for key, x in state.items()
            },
        },
    ],
)
def test_wrappers_of_training_loops_are_removed(tmp_path, wrap):
    state = {"logit_scale": torch.tensor(1.0), "visual.proj": torch.tensor([2.0])}
    torch.save(wrap(state), tmp_path / "x.pt")
    plain = state_file.read(tmp_path / "x.pt")
    assert plain == {"logit_scale": 1, "visual.proj": 2}


def test_two_tensors_of_one_name_are_refused(tmp_path):
    tensors = {"logit_scale": np.zeros(1), "_orig_mod.logit_scale": np.ones(1)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="two tensors of one name"):
        state_file.read(tmp_path / "x.safetensors")


def test_several_files_with_an_index_are_one_state_dict(tmp_path):
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for key, name in names.items():
        safetensors.numpy.save_file({key: np.full(2, ord(key))}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    state = state_file.read(index)
    assert {key: x.tolist() for key, x in state.items()} == {"a": [97, 97], "b": [98, 98]}
    (tmp_path / names["b"]).unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002.safetensors cannot be read"):
        state_file.read(index)


class Unsafe:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize(
    "content,words",
    [
        (lambda file: {"a": Unsafe(file)}, "cannot be read as tensors alone"),
        (lambda file: {"a": 3}, "holds no state_dict"),
        (lambda file: [torch.zeros(1)], "holds no state_dict"),
    ],
)
def test_files_with_other_things_than_tensors_are_refused_and_run_no_code(tmp_path, content, words):
    torch.save(content(tmp_path / "touched"), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=words):
        state_file.read(tmp_path / "x.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
@pytest.mark.parametrize("content", [b"", b"torn"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} cannot be read as"):
        state_file.read(tmp_path / name)


def test_without_pytorch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match="pip install -r requirements-torch.txt"):
        state_file.read(tmp_path / "x.pt")
