from pathlib import Path

import numpy as np
import pytest

from clipa_jax.config import recipes, schedules
from clipa_jax.errors import ConfigError, DataError, UserError
from clipa_jax.runtime.interrupt import Stopped
from clipa_jax.training import program, stage, workdir
from clipa_jax.weights import open_weights

ROOT = Path(__file__).parents[2]


UNHASHED = (
    "decode|resize({res})|choose_caption"
    "|tokenize({text_len}, vocab={vocab!r}, reduction={reduction!r})"
)


def config(name="pretrain", **overrides):
    """A stage of the demo without evaluation."""
    made = recipes.load(f"demo/{name}")
    made.eval_percent, made.eval_steps = None, 0
    made.update_from_flattened_dict(overrides)
    return made


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"input.batch_size": 129}, "batch 129 is not divisible by 8 .*nearest: 128"),
        ({"input.source": "tfds:nowhere/1.0.0"}, "tfds:nowhere/1.0.0"),
        ({"input.source": "tfds:data/none/1.0.0"}, "data/none/1.0.0"),
        ({"input.source": ""}, "input.source is empty"),
        ({"input.split": "trian"}, "trian.*train"),
        ({"input.vocab": "nowhere.txt"}, "nowhere.txt"),
        ({"input.reduction": "truncat"}, "nearest: truncate"),
        ({"input.preprocess": "decode|resice(16)"}, "nearest: resize"),
        ({"model.image.pool": "gapp"}, "nearest: gap"),
        ({"model.size": "B-16"}, "'B-16'; nearest: B/16"),
        ({"model.size": "vit-l14"}, "'vit-l14'; nearest: L/14"),
        ({"model.size": "X/8"}, "'X'.*legal: B, G, H, L, S, Ti, micro, mini, nano"),
        ({"model.text.vocab_size": 100}, "100"),
        ({"loss.name": "softmaxx"}, "nearest: softmax"),
        ({"loss.name": "sigmoid"}, "the sigmoid losses need a bias .* -10 in SigLIP"),
        ({"model.bias_init": -10.0}, "the softmax losses need None"),
        ({"loss.duplicates": "drop"}, "unknown config.loss.duplicates 'drop'.*keep, mask"),
        (
            {"loss.duplicates": "mask", "input.preprocess": UNHASHED},
            r"needs the hashes of captions.*end it with \|hash_caption",
        ),
        ({"microbatch": 48}, "microbatch 48 does not divide the batch of 128"),
        ({"on_nonfinite": "skp"}, "nearest: skip"),
        ({"mask.ratio": 1.5}, "mask.ratio=1.5"),
        ({"mesh.tensor": 3}, "does not fit 8 devices"),
        ({"optim.decay": "kernel"}, "nearest: kernels"),
        (
            {"input.batch_size": 1, "mesh.fsdp": 1, "mesh.tensor": 8},
            "input.batch_size=1.*2 or more",
        ),
        ({"total_steps": 5}, "exactly one of total_examples, total_steps"),
        ({"surgery": ("text_position",)}, "nearest: text_positions"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        stage.prepare(config(**overrides), tmp_path / "W", {})
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize(
    ("section", "key", "sentence"),
    [
        ("input", "cach_raw", "nothing reads config.input.cach_raw; nearest: "),
        ("checkpoint", "keep_lst", "unknown key config.checkpoint.keep_lst; nearest: keep_last"),
        ("logs", "wandb_projct", "unknown key config.logs.wandb_projct; nearest: wandb_project"),
        ("logs", "workdir", "unknown key config.logs.workdir; "),
        ("distributed", "proces", "unknown key config.distributed.proces; nearest: process"),
        ("model.image", "causal", "unknown key config.model.image.causal; "),
    ],
)
def test_a_misspelled_key_stops_the_run_before_any_work(tmp_path, section, key, sentence):
    changed = config()
    with changed.unlocked():
        changed.update_from_flattened_dict({f"{section}.{key}": True})
        with pytest.raises(ConfigError, match=sentence):
            stage.prepare(changed, tmp_path / "W", {})
    assert not (tmp_path / "W").exists()


def test_prepare_reads_every_declared_key(tmp_path):
    stage.prepare(recipes.load("demo/pretrain"), tmp_path, {}).settings.check_all_read()


def test_a_batch_larger_than_the_data_and_very_many_epochs_are_announced(tmp_path, caplog):
    stage.prepare(config(), tmp_path / "W", {})
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    samples = 1 << 20
    stage.prepare(config(**{"input.batch_size": samples}), tmp_path / "W", {})
    stage.prepare(config(total_examples=10**12), tmp_path / "W", {})
    (batch, epochs) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert "a batch of 1,048,576 holds copies" in batch
    assert "passes" in epochs and "samples of the data" in epochs


def test_a_stage_needs_its_predecessor_or_weights(tmp_path):
    with pytest.raises(ConfigError, match="finetune_1 starts from the weights of stage pretrain"):
        stage.prepare(config("finetune_1"), tmp_path, {})
    assert stage.prepare(config("finetune_1", init="scratch"), tmp_path, {}).init == ""
    with pytest.raises(UserError, match="no such file or folder"):
        missing = config("finetune_1", init=str(tmp_path / "none"))
        stage.prepare(missing, tmp_path, {}, open_weights=open_weights)


def test_stages_that_do_not_connect_are_refused_before_any_work(tmp_path):
    before = {"pretrain": stage.prepare(config(), tmp_path, {})}
    second = stage.prepare(config("finetune_1"), tmp_path, before)
    assert second.init == str(tmp_path / "pretrain")
    with pytest.raises(UserError, match="txt/pos_embedding: shape .1, 8, 96., expected .1, 10"):
        stage.prepare(config("finetune_1", surgery=()), tmp_path, before)
    with pytest.raises(UserError, match="img/head/kernel"):
        stage.prepare(config("finetune_1", **{"model.embed_dim": 64}), tmp_path, before)


def test_a_stage_with_another_vocabulary_than_its_predecessor_is_refused(tmp_path):
    before = {"pretrain": stage.prepare(config(), tmp_path, {})}
    pieces = Path("data/emoji/vocab.txt").read_text().splitlines()
    vocab = tmp_path / "reversed.txt"
    vocab.write_text("\n".join([*pieces[:5], *reversed(pieces[5:])]) + "\n")
    with pytest.raises(UserError, match="token ids would mean other words"):
        stage.prepare(config("finetune_1", **{"input.vocab": str(vocab)}), tmp_path, before)


def test_the_shapes_of_a_batch_follow_from_the_config(tmp_path):
    for overrides in ({}, {"input.preprocess": UNHASHED}):
        made = stage.prepare(config(**overrides), tmp_path, {})
        assert program.batch_spec(made.settings.input) == made.data.spec
        assert ("caption_hash" in made.data.spec) == (not overrides)


def test_tokens_count_the_class_token_and_the_mask(tmp_path):
    assert stage.prepare(config(), tmp_path, {}).program.image_tokens == 5
    masked = config("finetune_2", init="scratch")
    # 90 % of 6 x 6, rounded down, and one.
    assert stage.prepare(masked, tmp_path, {}).program.image_tokens == 33


def test_overrides_for_all_stages_reach_each_of_them():
    schedule = recipes.load("demo/schedule")
    schedule["all"].total_steps = 7
    schedule["all"].input.batch_size = 64
    schedule.finetune_1.optim.b2 = 0.5
    stages = schedules.split(schedule)
    assert [one.name for one in stages] == ["pretrain", "finetune_1", "finetune_2"]
    assert [(one.total_steps, one.total_examples) for one in stages] == [(7, None)] * 3
    assert [one.input.batch_size for one in stages] == [64] * 3
    assert [one.optim.b2 for one in stages] == [0.98, 0.5, 0.98]


def test_a_workdir_of_another_experiment_is_refused(tmp_path):
    first = stage.prepare(config(), tmp_path, {})
    workdir.claim(first.folder, first.config)
    stage.prepare(config(log_steps=3), tmp_path, {})  # changes nothing that is computed
    with pytest.raises(UserError, match="another experiment: seed is 0 there and 1 here"):
        stage.prepare(config(seed=1), tmp_path, {})


def test_data_and_a_vocabulary_that_were_moved_are_the_same_experiment(tmp_path):
    stage.prepare(config(), tmp_path, {}).claim()
    (tmp_path / "emoji").mkdir()
    (tmp_path / "emoji" / "1.0.0").symlink_to(ROOT / "data" / "emoji" / "1.0.0")
    words = (ROOT / "data" / "emoji" / "vocab.txt").read_text()
    (tmp_path / "words.txt").write_text(words)
    (tmp_path / "others.txt").write_text(words + "another\n")
    moved = {"input.source": f"tfds:{tmp_path}/emoji/1.0.0", "input.vocab": f"{tmp_path}/words.txt"}
    stage.prepare(config(**moved), tmp_path, {}).claim()
    with pytest.raises(UserError, match="another experiment: .*input.split is 'train"):
        stage.prepare(config(**{"input.split": "heldout_pictures"}), tmp_path, {})
    with pytest.raises(UserError, match="another experiment: .*input.vocab is .*words.txt"):
        stage.prepare(config(**{"input.vocab": f"{tmp_path}/others.txt"}), tmp_path, {})


def test_an_evaluation_can_be_interrupted_after_each_batch(tmp_path):
    calls = []

    def between(embeddings):
        calls.append(embeddings.shape)
        if len(calls) == 2:
            raise Stopped

    made = stage.prepare(config(), tmp_path, {}, after_batch=between)
    params = made.program.spec.init(0).params
    tokens_BL = np.zeros((8, 8), np.int32)
    made.encoders.text(params, tokens_BL)
    with pytest.raises(Stopped):
        made.encoders.text(params, tokens_BL)
    assert calls == [(8, 128)] * 2


def test_a_misspelled_evaluator_key_is_refused_also_with_evaluation_off(tmp_path):
    changed = config()
    changed.evals.zero_shot.lable = "concept"
    with pytest.raises(ConfigError, match="config.evals.zero_shot.lable; nearest: label"):
        stage.prepare(changed, tmp_path / "W", {})


def test_a_run_whose_vocabulary_file_is_gone_goes_on_with_its_own_copy(tmp_path, caplog):
    vocab = tmp_path / "mine.txt"
    vocab.write_bytes(Path("data/emoji/vocab.txt").read_bytes())
    given = config(**{"input.vocab": str(vocab)})
    first = stage.prepare(given, tmp_path / "W", {})
    first.claim()
    workdir.finish(first.folder, first.result(1.0, {}))
    vocab.unlink()
    again = stage.prepare(given, tmp_path / "W", {})
    again.claim()  # the same experiment
    assert workdir.is_finished(again.folder)
    assert again.settings.input.vocab == str(first.folder / "vocab.txt")
    assert again.config.input.vocab == str(vocab)
    assert "uses its copy" in caplog.text
    with pytest.raises(DataError, match=r"mine\.txt"):
        stage.prepare(given, tmp_path / "W2", {})
