"""What a path to weights is."""

import os

import numpy as np
import pytest
import safetensors.numpy

import clipa_jax
from clipa_jax.errors import CheckpointError
from clipa_jax.training import workdir
from clipa_jax.weights import npz, open_clip_folder, open_weights
from tests.helpers import random_clip, small_stage


def test_a_workdir_is_its_last_finished_stage(tmp_path):
    for seed, name in enumerate(("b_first", "a_second", "unfinished")):
        config = small_stage.config(name)
        folder = small_stage.stage(tmp_path, config, seed=seed, finished=name != "unfinished")
        if name != "unfinished":
            os.utime(folder / workdir.RESULT, (seed, seed))
    weights, stage = open_weights(str(tmp_path)), open_weights(str(tmp_path / "a_second"))
    assert weights.kind == stage.kind == "stage"
    assert weights.config.name == stage.config.name == "a_second"
    assert weights.config.input.vocab == str(tmp_path / "a_second" / "vocab.txt")
    for name, leaf in stage.read().items():
        np.testing.assert_array_equal(weights.read()[name], leaf)
    assert open_weights(str(tmp_path / "unfinished")).config.name == "unfinished"


def test_an_archive_has_the_config_beside_it(tmp_path):
    npz.write(tmp_path / "x.npz", {"t": np.ones(1, np.float32)})
    weights = open_weights(str(tmp_path / "x.npz"))
    assert (weights.kind, weights.config) == ("npz", None)
    (tmp_path / "x.config.json").write_text('{"name": "x"}')
    assert weights.config.name == "x"


def test_an_open_clip_folder_and_its_state_dict_are_the_same_weights(tmp_path):
    config = random_clip.config()
    leaves = random_clip.weights(config)
    folder = random_clip.write_open_clip(tmp_path / "torch", config, leaves)
    weights, file = open_weights(str(folder)), open_weights(str(folder / open_clip_folder.WEIGHTS))
    assert weights.kind == file.kind == "open_clip"
    assert weights.config == file.config
    fitted = weights.read_like(random_clip.shapes(config))
    assert fitted.keys() == leaves.keys() and weights.read().keys() == file.read().keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(fitted[name], leaf, err_msg=name)


def test_a_state_dict_without_config_is_refused(tmp_path):
    safetensors.numpy.save_file({"logit_scale": np.zeros(1)}, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(CheckpointError, match=r"no open_clip_config\.json in .*--model="):
            clipa_jax.load(str(path))


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "empty", "unfinished"])
def test_a_path_without_weights_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished" / "stage").mkdir(parents=True)
    place = "no such file or folder: " if "nowhere" in name else "no weights at "
    with pytest.raises(CheckpointError, match=f"{place}.*{name}; expected a workdir"):
        open_weights(str(tmp_path / name))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("clipa-l14-datacomp", "nearest: clipa-l14-datacomp1b"),
        ("results/evaluation.json", "no results at .*: evaluate --out=DIR writes"),
    ],
)
def test_a_misspelled_name_and_missing_results_are_refused_with_a_remedy(path, message):
    with pytest.raises(CheckpointError, match=message):
        open_weights(path)


def test_weights_without_config_ask_for_one(tmp_path):
    npz.write(tmp_path / "x.npz", {"t": np.ones(1, np.float32)})
    with pytest.raises(CheckpointError, match="no config; give that of the stage that trained it"):
        clipa_jax.load(str(tmp_path / "x.npz"))


def test_the_index_of_sharded_safetensors_is_no_result_of_an_evaluation(tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text('{"weight_map": {}}')
    assert open_weights(str(file)).kind == "open_clip"
