"""What is evaluated is what was trained, and where it is not, that is said."""

from pathlib import Path

import made
import pytest
from ml_collections import ConfigDict

from clipa_jax.convert import npz
from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.evidence import subject
from configs import common


def differs(given, root, stage=None):
    found = subject.load(str(root), given, stage).differs
    return {one["key"]: (one["checkpoint"], one["config"]) for one in found}


def test_with_its_own_config_nothing_differs(root):
    assert differs(made.config(), root) == {}


def test_a_config_for_evaluation_leaves_the_rest_to_the_checkpoint(root):
    one = subject.load(str(root), made.evaluation(made.EVALS))
    assert one.differs == []
    assert one.model.res == 16 and one.model.config.input.preprocess_eval == "decode|resize({res})"
    assert one.mesh.size == 8


def test_another_resolution_is_told_with_both_values(root):
    given = made.evaluation(made.EVALS)
    given.input.res = 24
    wanted = {
        "input.res": (16, 24),
        "input.preprocess_eval": ("decode|resize(16)", "decode|resize(24)"),
    }
    assert differs(given, root) == wanted
    assert differs(made.config(input__res=24), root) == wanted


def test_other_arithmetic_or_pixels_are_told(root):
    given = made.config(
        model__dtype="bfloat16", model__mean=(0.5, 0.5, 0.5), model__image__remat="full"
    )
    found = differs(given, root)
    assert found["model.mean"] == ([0.485, 0.456, 0.406], [0.5, 0.5, 0.5])
    assert found["model.image.dtype"] == ("float32", "bfloat16")
    assert set(found) == {"model.mean", "model.image.dtype", "model.text.dtype"}


def test_another_vocabulary_is_refused_with_both(root, tmp_path):
    lines = Path(made.VOCAB).read_text().splitlines()
    turned = tmp_path / "turned.txt"
    turned.write_text("\n".join([*lines[:5], *reversed(lines[5:])]))
    with pytest.raises(CheckpointError, match=r"vocab.txt of 1,947 pieces.*turned.txt has 1,947"):
        subject.load(str(root), made.config(input__vocab=str(turned)))
    same = tmp_path / "same.txt"
    same.write_text("\n".join(lines) + "\n")
    assert differs(made.config(input__vocab=str(same)), root) == {}


def test_weights_that_do_not_fit_are_refused(root):
    with pytest.raises(CheckpointError, match="do not fit the config"):
        subject.load(str(root), made.config(model__embed_dim=16))


def test_a_file_without_a_config_needs_one(root, tmp_path):
    leaves = subject.loading.read(str(root))[1]
    npz.write(tmp_path / "weights.npz", leaves)
    with pytest.raises(CheckpointError, match="carries no config.*--stage="):
        subject.load(str(tmp_path / "weights.npz"), made.evaluation(made.EVALS))
    with_stage = common.schedule({"first": made.config("first"), "last": made.config("last")})
    assert differs(made.evaluation({}), tmp_path / "weights.npz", with_stage) == {}


def test_without_a_tokenizer_there_is_nothing_to_compare(root):
    given = made.config()
    given.input.vocab = ""
    with pytest.raises(CheckpointError, match="tokenizer that is not among ours.*input.vocab="):
        subject.load(str(root), given)


def test_of_a_schedule_the_stage_of_the_checkpoint_is_taken(root):
    small, other = made.config("small"), made.config("other")
    assert subject.stage_of(common.schedule({"small": small, "other": other}), str(root)).name == (
        "small"
    )
    assert (
        subject.stage_of(common.schedule({"a": made.config("a"), "other": other}), str(root)).name
        == "other"
    )
    assert subject.stage_of(small, str(root)).name == "small"


def test_a_config_must_say_how_to_lie_on_the_devices(root):
    with pytest.raises(ConfigError, match="config.cpu_devices is needed.*common.evaluation"):
        subject.stage_of(ConfigDict({"evals": {}}), str(root))


def test_a_mesh_for_another_machine_becomes_one_of_all_devices(root, caplog):
    one = subject.load(str(root), made.config(mesh__replica=3))
    assert dict(one.mesh.shape) == {"replica": 1, "fsdp": 8, "tensor": 1}
    split = subject.load(str(root), made.config(mesh__tensor=2, sharding__preset="fsdp_tp"))
    assert dict(split.mesh.shape) == {"replica": 1, "fsdp": 4, "tensor": 2}
    kernel = split.model.params["txt"]["Embed_0"]["embedding"]
    assert not kernel.sharding.is_fully_replicated
