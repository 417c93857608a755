import json

import numpy as np
import pytest

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.zero_shot import ZeroShot

HELD_OUT = {"name": "zs", "source": "fake", "split": "heldout", "label": "concept"}


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_one_prompt_by_hand(world):
    data, model = world
    values = dict(ZeroShot(env=model.environment(), batch_size=4, **HELD_OUT).run(model.state))
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
    evaluator = ZeroShot(env=model.environment(), templates=("{}", "a {}"), **HELD_OUT)
    class_CE = evaluator.classifier(model.state)
    for c in range(7):
        pair = [model.text_ME[model.texts[text]] for text in (f"class {c}", f"a class {c}")]
        np.testing.assert_allclose(class_CE[c], unit(np.mean(pair, axis=0)), rtol=1e-6)


def test_padding_of_an_uneven_batch_changes_nothing(world):
    _, model = world
    env = model.environment()
    values = [
        dict(ZeroShot(env=env, batch_size=size, **HELD_OUT).run(model.state))
        for size in (1, 4, 11, 64)
    ]
    assert all(value == pytest.approx(values[0]) for value in values)
    assert 64 in model.batch_shapes


def test_groups_are_reported_with_their_complement(world):
    _, model = world
    evaluator = ZeroShot(env=model.environment(), by="group", without=["flags"], **HELD_OUT)
    values = dict(evaluator.run(model.state))
    assert set(values) >= {"top1/flags", "top1/not_flags", "top1/food_and_drink"}
    assert "top1/empty_group" not in values and "top1/not_food_and_drink" not in values
    assert values["top1/not_flags"] == values["top1/food_and_drink"]
    both = (6 * values["top1/flags"] + 5 * values["top1/not_flags"]) / 11
    assert values["top1"] == pytest.approx(both)


def test_top5_is_left_out_for_five_classes(world):
    data, model = world
    data.names["concept"] = data.names["concept"][:5]
    data.rows = [row for row in data.rows if row["concept"] < 5]
    values = dict(ZeroShot(env=model.environment(), **HELD_OUT).run(model.state))
    assert set(values) == {"top1", "mean_recall"}


def test_gallery_holds_the_whole_split_in_order(world):
    _, model = world
    evaluator = ZeroShot(env=model.environment(), batch_size=4, **HELD_OUT)
    found = evaluator.gallery(model.state)
    assert found.captions == tuple(f"class {i}" for i in range(7))
    assert found.scale == pytest.approx(10)
    np.testing.assert_allclose(found.image_NE, model.image_NE, rtol=1e-6)
    np.testing.assert_array_equal(found.caption_ME, evaluator.classifier(model.state))
    assert found.pairs_P2.tolist() == [[n, n % 7] for n in range(11)]
    rows = np.array([9, 0, 9])
    assert found.data.pictures(rows)[:, 0, 0, 0].tolist() == rows.tolist()
    with pytest.raises(DataError, match="11 pictures, but number 11 is asked for"):
        found.data.pictures(np.array([11]))


def test_names_from_a_file_must_fit_the_dataset(world, tmp_path):
    _, model = world
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"classes": [f"class {i}" for i in range(6)]}))
    with pytest.raises(DataError, match="evaluator zs on fake.*6 class names for 7 classes"):
        ZeroShot(env=model.environment(), classes=str(file), **HELD_OUT)


def test_label_without_a_name_is_an_error(world):
    data, model = world
    data.rows[3]["concept"] = np.int64(-1)
    with pytest.raises(DataError, match="concept=-1 has no class name; there are 7"):
        dict(ZeroShot(env=model.environment(), **HELD_OUT).run(model.state))


def test_missing_data_and_unknown_options_stop_before_the_run(world):
    _, model = world
    env = model.environment()
    with pytest.raises(DataError, match="evaluator zs: no dataset fake, split nosuch"):
        ZeroShot(env=env, **HELD_OUT | {"split": "nosuch"})
    with pytest.raises(DataError, match="no class names for 'colour'"):
        ZeroShot(env=env, **HELD_OUT | {"label": "colour"})
    with pytest.raises(ConfigError, match="unknown prompt templates 'plane'; nearest: plain"):
        ZeroShot(env=env, templates="plane", **HELD_OUT)
    with pytest.raises(DataError, match="no such group; nearest: flags"):
        ZeroShot(env=env, by="group", without=("flag",), **HELD_OUT)


def test_no_pictures_is_an_error(world):
    data, model = world
    data.rows = []
    with pytest.raises(DataError, match="evaluator zs on fake, split heldout: no pictures"):
        dict(ZeroShot(env=model.environment(), **HELD_OUT).run(model.state))
