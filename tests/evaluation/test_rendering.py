"""Tables that a person reads: percent where it is a share, and nothing left unsaid."""

from clipa_jax.evaluation import comparison, rendering
from tests.helpers.fake_results import make

MISSING = {
    "pets": {
        "dataset": "tfds:pets",
        "looked": "/data/pets",
        "command": "tfds build pets",
        "error": "evaluator pets: tfds:pets: not prepared",
    }
}
FILLED = ["fake", "loss", "not", "finite", "6"]
DIFFERS = [{"key": "input.res", "checkpoint": 16, "config": 24}]


def test_an_evaluation_on_a_terminal():
    said = rendering.text(make(missing=MISSING, differs=DIFFERS).report)
    head, _, heading, ruler, *rest = said.splitlines()
    assert head.startswith("W/small, weights ") and "cpu, jax" in head
    assert " ".join(heading.split()) == "evaluation metric value 95 % interval samples seconds"
    assert set(ruler) == {"-", " "}
    top1 = next(line for line in rest if "top1" in line)
    assert "66.67 %" in top1 and " to 100.00 %" in top1 and " 6 " in f"{top1} "
    assert next(line for line in rest if "loss" in line).split() == FILLED
    assert "input.res is 24 here; the checkpoint was trained with 16" in said
    assert "pets: not evaluated" in said and said.count("tfds build pets") == 1
    assert max(map(len, rest)) < 120


def test_markdown_has_a_row_for_each_metric():
    lines = rendering.markdown(make(missing=MISSING).report).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert {line.count("|") for line in rows} == {7}
    assert rows[1] == "| --- | --- | ---: | ---: | ---: | ---: |"
    assert any(line.startswith("- pets: not evaluated") for line in lines)


def test_a_comparison_says_who_is_higher():
    found = comparison.compare(make(), make())
    top1 = found["evaluations"]["fake"]["metrics"]["top1"]
    for low, high, verdict in ((0.1, 0.2, "B"), (-0.2, -0.1, "A"), (-0.1, 0.1, "")):
        top1.update(difference=(low + high) / 2, low=low, high=high)
        line = next(line for line in rendering.text(found).splitlines() if "top1" in line)
        assert f"{100 * low:+.2f} to {100 * high:+.2f} pp" in line
        assert line.rstrip().endswith(verdict or "6")
    assert rendering.markdown(found).splitlines()[0] == "# Comparison"


def test_shares_and_numbers():
    assert rendering.is_share("top1/flags") and rendering.is_share("i2t_r5")
    assert not rendering.is_share("loss") and not rendering.is_share("heldout/loss")
