"""What is evaluated is what was trained, and where it is not, that is said."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from clipa_jax.config import schema
from clipa_jax.errors import CheckpointError, ConfigError
from clipa_jax.evaluation import checkpoint
from clipa_jax.weights import npz, open_weights
from tests.helpers import small_stage


def differs(given, root, stage=None):
    found = checkpoint.load(open_weights(str(root)), given, stage).differs
    return {one["key"]: (one["checkpoint"], one["config"]) for one in found}


def test_with_its_own_config_nothing_differs(root):
    assert differs(small_stage.config(), root) == {}


def test_a_config_for_evaluation_leaves_the_rest_to_the_checkpoint(root):
    one = checkpoint.load(open_weights(str(root)), small_stage.evaluation(small_stage.EVALS))
    assert one.differs == []
    assert one.model.res == 16 and one.model.config.input.preprocess_eval == "decode|resize({res})"
    assert one.mesh.size == 8


def test_another_resolution_is_told_with_both_values(root):
    given = small_stage.evaluation(small_stage.EVALS)
    given.input.res = 24
    wanted = {
        "input.res": (16, 24),
        "input.preprocess_eval": ("decode|resize(16)", "decode|resize(24)"),
    }
    assert differs(given, root) == wanted
    assert differs(small_stage.config(input__res=24), root) == wanted


def test_other_arithmetic_or_pixels_are_told(root):
    given = small_stage.config(
        model__dtype="bfloat16", model__mean=(0.5, 0.5, 0.5), model__image__remat="full"
    )
    found = differs(given, root)
    assert found["model.mean"] == ([0.485, 0.456, 0.406], [0.5, 0.5, 0.5])
    assert found["model.image.dtype"] == ("float32", "bfloat16")
    assert set(found) == {"model.mean", "model.image.dtype", "model.text.dtype"}


def test_another_vocabulary_is_refused_with_both(root, tmp_path):
    lines = Path(small_stage.VOCAB).read_text().splitlines()
    turned = tmp_path / "turned.txt"
    turned.write_text("\n".join([*lines[:5], *reversed(lines[5:])]))
    with pytest.raises(CheckpointError, match=r"vocab.txt of 1,947 pieces.*turned.txt has 1,947"):
        checkpoint.load(open_weights(str(root)), small_stage.config(input__vocab=str(turned)))
    same = tmp_path / "same.txt"
    same.write_text("\n".join(lines) + "\n")
    assert differs(small_stage.config(input__vocab=str(same)), root) == {}


def test_weights_that_do_not_fit_are_refused(root):
    with pytest.raises(CheckpointError, match="do not fit the config"):
        checkpoint.load(open_weights(str(root)), small_stage.config(model__embed_dim=16))


def test_a_file_without_a_config_needs_one(root, tmp_path):
    leaves = open_weights(str(root)).read()
    npz.write(tmp_path / "weights.npz", leaves)
    with pytest.raises(CheckpointError, match="carries no config.*--stage="):
        checkpoint.load(
            open_weights(str(tmp_path / "weights.npz")), small_stage.evaluation(small_stage.EVALS)
        )
    with_stage = schema.schedule(
        {"first": small_stage.config("first"), "last": small_stage.config("last")}
    )
    assert differs(small_stage.evaluation({}), tmp_path / "weights.npz", with_stage) == {}


def test_without_a_tokenizer_there_is_nothing_to_compare(root):
    given = small_stage.config()
    given.input.vocab = ""
    with pytest.raises(CheckpointError, match="has an unsupported tokenizer.*input.vocab="):
        checkpoint.load(open_weights(str(root)), given)


def test_of_a_schedule_the_stage_of_the_checkpoint_is_taken(root):
    small, other = small_stage.config("small"), small_stage.config("other")
    assert checkpoint.stage_of(
        schema.schedule({"small": small, "other": other}), open_weights(str(root))
    ).name == ("small")
    assert (
        checkpoint.stage_of(
            schema.schedule({"a": small_stage.config("a"), "other": other}), open_weights(str(root))
        ).name
        == "other"
    )
    assert checkpoint.stage_of(small, open_weights(str(root))).name == "small"


def test_a_config_must_say_how_to_lie_on_the_devices(root):
    with pytest.raises(ConfigError, match="config.cpu_devices is needed"):
        checkpoint.stage_of(ConfigDict({"evals": {}}), open_weights(str(root)))


def test_a_mesh_for_another_machine_becomes_one_of_all_devices(root, caplog):
    one = checkpoint.load(open_weights(str(root)), small_stage.config(mesh__replica=3))
    assert dict(one.mesh.shape) == {"replica": 1, "fsdp": 8, "tensor": 1}
    split = checkpoint.load(
        open_weights(str(root)), small_stage.config(mesh__tensor=2, sharding__preset="fsdp_tp")
    )
    assert dict(split.mesh.shape) == {"replica": 1, "fsdp": 4, "tensor": 2}
    kernel = split.model.params["txt"]["Embed_0"]["embedding"]
    assert not kernel.sharding.is_fully_replicated
