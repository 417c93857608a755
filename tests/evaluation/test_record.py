"""What is written of an evaluation can be read again, and nothing else can."""

import json

import numpy as np
import pytest

from clipa_jax.errors import DataError, MissingData, UserError
from clipa_jax.evaluation import record, samples
from clipa_jax.evaluators import Outcome
from tests.helpers.fake_results import HIT_N, IDS, OUTCOMES, Fake, make


def test_the_report_says_what_a_number_was_made_of():
    report = make(missing={}, differs=[{"key": "input.res", "checkpoint": 16, "config": 24}]).report
    assert report["checkpoint"] == "W/small"
    assert len(report["weights"]) == 8
    assert report["environment"]["platform"] == "cpu"
    assert report["environment"]["mesh"] == {"replica": 1, "fsdp": 1, "tensor": 1}
    entry = report["evaluations"]["fake"]
    assert (entry["type"], entry["source"], entry["split"]) == ("fake", "emoji", "test")
    assert (entry["count"], entry["examples"]) == (6, 6)
    assert entry["options"] == {"ks": [1, 5], "batch_size": 64}
    top1 = entry["metrics"]["top1"]
    assert top1["value"] == OUTCOMES["top1"].value
    assert top1["low"] < top1["value"] < top1["high"] and top1["count"] == 6
    assert entry["metrics"]["loss"] == {"value": None, "low": None, "high": None, "count": 6}
    json.dumps(report, allow_nan=False)


def test_fingerprints_follow_what_they_stand_for():
    def of(**about):
        return make({"fake": Fake(**about)}).report["evaluations"]["fake"]

    one = of()
    assert of(prompts=["a dog"]) == one | {"seconds": of()["seconds"]}
    for key, about in (
        ("prompts_fingerprint", {"prompts": ["a cat"]}),
        ("preprocess_fingerprint", {"preprocess": "decode|resize(16)"}),
        ("data_fingerprint", {"data_fingerprint": "d1"}),
    ):
        assert of(**about)[key] != one[key]
    assert of(prompts=None)["prompts_fingerprint"] is None


def test_written_and_read_again_it_is_the_same(tmp_path):
    made, file = make(), tmp_path / "new" / "evaluation.json"
    record.write(file, made)
    read = record.read(file)
    assert read.report == made.report
    assert set(read.outcomes["fake"]) == set(OUTCOMES)
    for metric, one in read.outcomes["fake"].items():
        wanted = OUTCOMES[metric]
        assert one.ids.tolist() == wanted.ids.tolist() and one.kind == wanted.kind
        assert one.value == pytest.approx(wanted.value, nan_ok=True)
        for name, rows in wanted.arrays.items():
            np.testing.assert_array_equal(one.arrays[name], rows)
    assert read.outcomes["fake"]["t2i_r1"].unit_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert not list(file.parent.glob("*.part"))


def test_equal_arrays_are_stored_once(tmp_path):
    samples.save(tmp_path / "x.npz", {"fake": OUTCOMES})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        kept = [archive[name].tolist() for name in archive.files if name != samples.INDEX]
    assert kept.count(IDS) == 1 and kept.count(HIT_N.tolist()) == 1


def test_samples_of_another_evaluation_are_refused(tmp_path):
    file = tmp_path / "evaluation.json"
    record.write(file, make())
    other = {"top1": Outcome.mean(IDS, ~HIT_N)}
    samples.save(record.samples_of(file), {"fake": OUTCOMES | other})
    with pytest.raises(UserError, match="belongs to another evaluation.*fake/top1 is 0.66"):
        record.read(file)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda file: file.unlink(), "no file .*evaluation.json"),
        (lambda file: file.write_text("{"), "is not JSON"),
        (lambda file: file.write_text('{"scores": {}}'), "is not the report of an evaluation"),
        (lambda file: file.write_text('{"evaluations": {"a": {"type": "x"}}}'), "a has no options"),
        (lambda file: file.with_suffix(".npz").unlink(), "no file .*evaluation.npz"),
        (lambda file: file.with_suffix(".npz").write_bytes(b"PK"), "does not hold outcomes"),
        (lambda file: np.savez(file.with_suffix(".npz"), x=np.ones(2)), "does not hold outcomes"),
    ],
)
def test_files_that_are_something_else_are_a_sentence(tmp_path, break_it, sentence):
    file = tmp_path / "evaluation.json"
    record.write(file, make())
    break_it(file)
    with pytest.raises(UserError, match=sentence):
        record.read(file)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    file = tmp_path / "evaluation.json"
    record.write(file, make())
    trap = np.array([Trap()], object)
    with (tmp_path / "evaluation.npz").open("wb") as stream:
        np.savez(stream, index=trap, array_0=trap)
    with pytest.raises(UserError, match="does not hold outcomes"):
        record.read(file)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        record.write(tmp_path / "file" / "evaluation.json", make())


def test_what_is_missing_says_where_it_was_looked_for():
    error = MissingData("no pets", dataset="pets", looked="/data/pets", command="tfds build pets")
    assert record.absent(error, {"source": "tfds:pets"}) == {
        "dataset": "pets",
        "looked": "/data/pets",
        "command": "tfds build pets",
        "error": "no pets",
    }
    plain = record.absent(DataError("no captions"), {"source": "tfds:pets"})
    assert plain == {
        "dataset": "tfds:pets",
        "looked": None,
        "command": None,
        "error": "no captions",
    }
