import json

import numpy as np
import pytest

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators import catalogue, class_names, outcome, task
from clipa_jax.evaluators.zero_shot import ZeroShot
from tests.evaluators.conftest import make, values_of

HELD_OUT = {"name": "zs", "source": "fake", "split": "heldout", "label": "concept"}


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_one_prompt_by_hand(world):
    data, model = world
    values = values_of(make(ZeroShot, model.context(), batch_size=4, **HELD_OUT), model.state)
    class_CE = np.stack([model.text_ME[model.texts[f"class {c}"]] for c in range(7)])
    label_N = np.arange(11) % 7
    order_NC = np.argsort(-(model.image_NE @ class_CE.T), axis=1)
    hit = [order_NC[i, 0] == label_N[i] for i in range(11)]
    hit5 = [label_N[i] in order_NC[i, :5] for i in range(11)]
    recall = [np.mean([h for h, y in zip(hit, label_N, strict=True) if y == c]) for c in range(7)]
    want = {"top1": np.mean(hit), "top5": np.mean(hit5), "mean_recall": np.mean(recall)}
    assert values == pytest.approx(want)


def test_class_embedding_is_the_unit_mean_of_unit_prompts(world):
    _, model = world
    evaluator = make(ZeroShot, model.context(), templates=("{}", "a {}"), **HELD_OUT)
    class_CE = evaluator.class_embeddings(model.state.params)
    for c in range(7):
        pair = [model.text_ME[model.texts[text]] for text in (f"class {c}", f"a class {c}")]
        np.testing.assert_allclose(class_CE[c], unit(np.mean(pair, axis=0)), rtol=1e-6)


def test_padding_of_an_uneven_batch_changes_nothing(world):
    _, model = world
    env = model.context()
    values = [
        values_of(make(ZeroShot, env, batch_size=size, **HELD_OUT), model.state)
        for size in (1, 4, 11, 64)
    ]
    assert all(value == pytest.approx(values[0]) for value in values)
    assert 64 in model.batch_shapes


def test_groups_are_reported_with_their_complement(world):
    _, model = world
    evaluator = make(ZeroShot, model.context(), by="group", without=["flags"], **HELD_OUT)
    values = values_of(evaluator, model.state)
    assert set(values) >= {"top1/flags", "top1/not_flags", "top1/food_and_drink"}
    assert "top1/empty_group" not in values and "top1/not_food_and_drink" not in values
    assert values["top1/not_flags"] == values["top1/food_and_drink"]
    both = (6 * values["top1/flags"] + 5 * values["top1/not_flags"]) / 11
    assert values["top1"] == pytest.approx(both)


def test_top5_is_left_out_for_five_classes(world):
    data, model = world
    data.names["concept"] = data.names["concept"][:5]
    data.rows = [row for row in data.rows if row["concept"] < 5]
    values = values_of(make(ZeroShot, model.context(), **HELD_OUT), model.state)
    assert set(values) == {"top1", "mean_recall"}


def test_gallery_holds_the_whole_split_in_order(world):
    _, model = world
    evaluator = make(ZeroShot, model.context(), batch_size=4, **HELD_OUT)
    found = evaluator.gallery(model.state)
    assert found.position_N.tolist() == found.row_N.tolist() == list(range(11))
    assert found.captions == tuple(f"class {i}" for i in range(7))
    assert found.scale == pytest.approx(10)
    np.testing.assert_allclose(found.image_NE, model.image_NE, rtol=1e-6)
    np.testing.assert_array_equal(found.caption_ME, evaluator.class_embeddings(model.state.params))
    assert found.pairs_P2.tolist() == [[n, n % 7] for n in range(11)]
    rows = np.array([9, 0, 9])
    assert found.data.pictures(rows)[:, 0, 0, 0].tolist() == rows.tolist()


def test_gallery_leaves_out_pictures_of_no_class(world):
    data, model = world
    for row in data.rows:
        row["concept"] = np.arange(row["number"] % 3)  # none, 0, or 0 and 1
    found = make(ZeroShot, model.context(), batch_size=4, **HELD_OUT).gallery(model.state)
    assert found.row_N.tolist() == [1, 2, 4, 5, 7, 8, 10]
    np.testing.assert_allclose(found.image_NE, model.image_NE[found.row_N], rtol=1e-6)
    pairs = [[n, c] for n in range(7) for c in range(found.row_N[n] % 3)]
    assert found.pairs_P2.tolist() == pairs


def test_names_from_a_file_must_fit_the_dataset(world, tmp_path):
    _, model = world
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"classes": [f"class {i}" for i in range(6)]}))
    with pytest.raises(DataError, match="evaluator zs on fake.*6 class names for 7 classes"):
        make(ZeroShot, model.context(), classes=str(file), **HELD_OUT)


def test_label_without_a_name_is_an_error(world):
    data, model = world
    data.rows[3]["concept"] = np.int64(-1)
    with pytest.raises(DataError, match="concept=-1 has no class name; there are 7"):
        values_of(make(ZeroShot, model.context(), **HELD_OUT), model.state)


def test_names_in_another_order_than_the_datas_are_mapped_or_refused(world, tmp_path):
    _, model = world
    want = values_of(make(ZeroShot, model.context(), **HELD_OUT), model.state)
    names = [f"class {i}" for i in range(7)]
    file = tmp_path / "names.json"
    file.write_text(json.dumps(names[::-1]))
    got = make(ZeroShot, model.context(), classes=str(file), **HELD_OUT)
    assert got.names == tuple(names[::-1])
    assert values_of(got, model.state) == pytest.approx(want)
    file.write_text(json.dumps(["other", "class 0", *names[2:]]))
    with pytest.raises(
        DataError, match="label 'concept': label 0 is 'class 0' in the data and 'oth"
    ):
        make(ZeroShot, model.context(), classes=str(file), **HELD_OUT)


def test_pictures_of_several_classes_or_of_none(world):
    data, model = world
    for row in data.rows:
        row["concept"] = np.arange(row["number"] % 3)  # none, 0, or 0 and 1
    class_CE = np.stack([model.text_ME[model.texts[f"class {c}"]] for c in range(7)])
    score_NC = model.image_NE @ class_CE.T
    some = [n for n in range(11) if n % 3]
    best_N = score_NC.argmax(axis=1)
    evaluator = make(ZeroShot, model.context(), batch_size=4, **HELD_OUT)
    values = values_of(evaluator, model.state)
    assert set(values) == {"top1", "top5"}  # a recall of which class?
    assert values["top1"] == pytest.approx(np.mean([best_N[n] < n % 3 for n in some]))
    assert [len(outcome.ids) for _, outcome in evaluator.outcomes(model.state)] == [7, 7]
    evaluator = make(
        ZeroShot, model.context(), metric="mean_average_precision", batch_size=4, **HELD_OUT
    )
    right_NC = np.arange(7) < (np.arange(11) % 3)[:, None]
    want = outcome.mean_average_precision(score_NC, right_NC)
    assert values_of(evaluator, model.state) == pytest.approx({"map": want})


def test_pictures_of_no_class_of_the_table(world, tmp_path):
    data, model = world
    data.names["concept"] = ("n0", "n1", "n2", "n3", "n4", "n5", "n6")
    file = tmp_path / "names.json"
    names = {"classes": ["class 6", "class 1", "class 3"], "keys": ["n6", "n1", "n3"]}
    file.write_text(json.dumps(names))
    options = {"context": model.context(), "classes": str(file), "batch_size": 4, **HELD_OUT}
    with pytest.raises(DataError, match="concept=0 is none of the 3 classes; outside=leave_out"):
        values_of(make(ZeroShot, **options), model.state)
    values = values_of(make(ZeroShot, outside="leave_out", **options), model.state)
    mine = [n for n in range(11) if n % 7 in (6, 1, 3)]
    class_CE = np.stack([model.text_ME[model.texts[f"class {c}"]] for c in (6, 1, 3)])
    best = [(6, 1, 3)[c] for c in (model.image_NE[mine] @ class_CE.T).argmax(axis=1)]
    assert values["top1"] == pytest.approx(
        np.mean([b == n % 7 for b, n in zip(best, mine, strict=True)])
    )


def test_a_data_set_by_name_says_what_is_not_given(world, monkeypatch):
    data, model = world
    known = {"title": "x", "task": "classification", "classes": "table", "templates": "plain"}
    known["layouts"] = {"tfds": {"name": "x", "split": "heldout", "label": "concept"}}
    listed = {"datasets": {"mine": known}, "aliases": {}}
    monkeypatch.setattr(catalogue.class_names, "asset", lambda name: listed)
    names = tuple(f"class {i}" for i in range(7))
    monkeypatch.setattr(task.class_names, "classes", lambda *_: class_names.Classes(names))
    monkeypatch.setattr(catalogue.sources, "open", lambda source, split: None)
    opened = []
    fake = data.listed
    data.listed = lambda source, split, _: opened.append((source, split)) or fake("fake", split)
    evaluator = make(ZeroShot, model.context(), name="zs", dataset="mine")
    assert opened == [("tfds:x", "heldout")] and evaluator.names == names
    make(ZeroShot, model.context(), name="zs", dataset="mine", split="train")
    assert opened[-1] == ("tfds:x", "train")
    with pytest.raises(ConfigError, match="evaluator zs: source= is needed, or dataset="):
        make(ZeroShot, model.context(), name="zs")
    with pytest.raises(ConfigError, match="unknown dataset 'mime'; nearest: mine"):
        make(ZeroShot, model.context(), name="zs", dataset="mime")


def test_unknown_metrics_and_treatments_name_the_nearest(world):
    _, model = world
    for change, message in (
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; nearest: accuracy"),
        ({"outside": "leave_in"}, "unknown outside 'leave_in'; nearest: leave_out"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(ZeroShot, model.context(), **HELD_OUT | change)
    with pytest.raises(DataError, match="by='group' needs metric=accuracy"):
        make(ZeroShot, model.context(), by="group", metric="mean_average_precision", **HELD_OUT)


def test_missing_data_and_unknown_options_stop_before_the_run(world):
    _, model = world
    env = model.context()
    with pytest.raises(DataError, match="evaluator zs: no dataset fake, split nosuch"):
        make(ZeroShot, env, **HELD_OUT | {"split": "nosuch"})
    with pytest.raises(DataError, match="evaluator zs: no feature 'color'"):
        make(ZeroShot, env, **HELD_OUT | {"label": "color"})
    with pytest.raises(DataError, match="no class names for 'number'"):
        make(ZeroShot, env, **HELD_OUT | {"label": "number"})
    with pytest.raises(ConfigError, match="unknown prompt templates 'plane'; nearest: plain"):
        make(ZeroShot, env, templates="plane", **HELD_OUT)
    with pytest.raises(DataError, match="no such group; nearest: flags"):
        make(ZeroShot, env, by="group", without=("flag",), **HELD_OUT)


def test_no_pictures_is_an_error(world):
    data, model = world
    data.rows = []
    with pytest.raises(DataError, match="evaluator zs on fake, split heldout: no pictures"):
        values_of(make(ZeroShot, model.context(), **HELD_OUT), model.state)
