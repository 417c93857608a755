"""state_dict files: safetensors without PyTorch, and files of torch.save."""

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
