import json

import pytest

from clipa_jax import runs
from clipa_jax.report import results
from tests.helpers import fake_runs


def read(*roots):
    return runs.read(list(roots))


def test_scores_without_and_with_intervals(tmp_path):
    root = fake_runs.run(tmp_path / "W", accuracy=0.4)
    fake_runs.evaluation(root / "finetune_2", 0.4)
    [run] = read(root)
    blocks = {block.name: block for block in results.of_run(run)}
    block = blocks["zero_shot"]
    assert block.header == fake_runs.STAGES
    [(metric, cells)] = block.rows
    assert metric == "top1"
    assert [cell.text for cell in cells] == ["20.0 %", "30.0 %", "40.0 %"]
    assert [cell.interval for cell in cells] == ["", "", "38.0 to 42.0"]
    assert (cells[2].low, cells[2].high) == (pytest.approx(0.38), pytest.approx(0.42))
    assert [metric for metric, _ in block.more] == ["top1/flags"]
    assert "1,906 samples" in block.about and block.warning == ""
    [(metric, cells)] = blocks["contrastive"].rows
    assert cells[0].text == "2.000" and cells[0].value is None  # nats are no share


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"source": "tfds:other"}, "data"),
        ({"split": "another"}, "split"),
        ({"count": 7}, "number of samples"),
        ({"prompts_fingerprint": "p1"}, "prompts"),
    ],
)
def test_different_data_is_marked(tmp_path, change, word):
    roots = [fake_runs.run(tmp_path / name) for name in ("a", "b")]
    fake_runs.evaluation(roots[0] / "finetune_2", 0.4)
    fake_runs.evaluation(roots[1] / "finetune_2", 0.5, **change)
    both = read(*roots)
    block = next(one for one in results.of_runs(both) if one.name == "zero_shot")
    assert block.warning == f"measured with different {word}: not to be compared"
    assert [cell.text for cell in block.rows[0][1]] == ["40.0 %", "50.0 %"]
    assert results.warnings(both) == [f"zero_shot: {block.warning}"]


def test_the_content_counts_and_not_where_it_lies(tmp_path):
    roots = [fake_runs.run(tmp_path / name) for name in ("a", "b")]
    for number, root in enumerate(roots):
        fake_runs.evaluation(
            root / "finetune_2", 0.4, source=f"tfds:{number}", data_fingerprint="d"
        )
    assert results.warnings(read(*roots)) == []
    fake_runs.evaluation(roots[1] / "finetune_2", 0.4, source="tfds:0", data_fingerprint="e")
    assert "different data" in results.warnings(read(*roots))[0]


def test_different_training_data_and_pictures_are_marked(tmp_path):
    a = fake_runs.run(tmp_path / "a", looked=fake_runs.held())
    b = fake_runs.run(tmp_path / "b", looked=fake_runs.held(fingerprint="other"))
    assert not any("trained" in mark for mark in results.warnings(read(a, b)))
    (a / "finetune_2" / "environment.json").rename(a / "aside")  # then names alone are compared
    assert not any("trained" in mark for mark in results.warnings(read(a, b)))
    (a / "aside").rename(a / "finetune_2" / "environment.json")
    data = fake_runs.ENVIRONMENT["data"] | {"num_examples": 11, "fingerprint": "f1"}
    environment = fake_runs.ENVIRONMENT | {"data": data}
    (b / "finetune_2" / "environment.json").write_text(json.dumps(environment))
    marks = results.warnings(read(a, b))
    assert any("trained on different data" in mark and "11 samples" in mark for mark in marks)
    assert any("held-out pictures or captions differ" in mark for mark in marks)
