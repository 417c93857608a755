import weakref

import pytest

from clipa_jax import evaluators
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.zero_shot import ZeroShot
from tests.evaluators.conftest import make, values_of

ZERO_SHOT = {"type": "zero_shot", "source": "fake", "split": "heldout", "label": "concept"}
CONTRASTIVE = {"type": "contrastive", "source": "fake", "split": "heldout"}


def build(model, **sections):
    settings = Settings(sections, "config.evals")
    return evaluators.build(settings, model.context()), settings


def test_build_makes_each_section_by_its_type_and_reads_all_of_it(world):
    _, model = world
    built, settings = build(model, zs=ZERO_SHOT, off={**ZERO_SHOT, "type": "off"}, con=CONTRASTIVE)
    assert list(built) == ["zs", "con"]
    assert isinstance(built["zs"], ZeroShot) and isinstance(built["con"], Contrastive)
    settings.check_all_read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "zeroshot"}, "zeroshot.*nearest: zero_shot"),
        ({"lable": "x"}, "unknown key config.evals.zs.lable; nearest: label"),
        ({"context": 1}, "unknown key config.evals.zs.context"),
    ],
)
def test_misspelt_types_and_keys_name_the_nearest(world, change, message):
    _, model = world
    with pytest.raises(ConfigError, match=message):
        build(model, zs=ZERO_SHOT | change)


def test_missing_keys_and_data_are_named(world):
    _, model = world
    with pytest.raises(ConfigError, match="config.evals.con.split is needed"):
        build(model, con={"type": "contrastive", "source": "fake"})
    with pytest.raises(DataError, match="evaluator con: no dataset elsewhere"):
        build(model, con=CONTRASTIVE | {"source": "elsewhere"})
    with pytest.raises(ConfigError, match="evals.con must be a section"):
        build(model, con="contrastive")


def test_missing_data_may_be_collected_while_the_others_are_built(world):
    _, model = world
    missing = {}
    sections = {"gone": CONTRASTIVE | {"source": "elsewhere"}, "con": CONTRASTIVE}
    settings = Settings(sections, "config.evals")
    built = evaluators.build(settings, model.context(), missing)
    assert list(built) == ["con"] and list(missing) == ["gone"]
    assert "evaluator gone: no dataset elsewhere" in str(missing["gone"])
    with pytest.raises(ConfigError, match="nearest: zero_shot"):
        evaluators.build(Settings({"x": {"type": "zeroshot"}}), model.context(), missing)


EVERY = {
    "zero_shot": {**ZERO_SHOT, "by": "group"},
    "zero_shot_groups": {
        **ZERO_SHOT,
        "label": "group",
        "classes": ("class 0", "a class 1", "shared"),
    },
    "retrieval": {**CONTRASTIVE, "type": "retrieval"},
    "contrastive": CONTRASTIVE,
    "probe": {**ZERO_SHOT, "type": "linear_probe", "train_split": "train"},
}


def test_a_split_is_read_once_for_all_evaluators_and_the_gallery(world):
    data, model = world
    built, _ = build(model, **EVERY)
    for evaluator in built.values():
        values_of(evaluator, model.state)
    gallery = built["zero_shot"].gallery(model.state)
    built["retrieval"].gallery(model.state)
    assert [split for split, _ in data.passes] == ["heldout", "train"]
    assert set(data.passes[0][1]) == {"concept", "group", "captions", "id"}
    gallery.data.pictures(gallery.position_N[[3, 1]])
    assert data.decoded == [3, 1] and len(data.passes) == 2


def test_scores_from_shared_embeddings_equal_those_of_each_evaluator_alone(world):
    _, model = world
    together, _ = build(model, **EVERY)
    for name, evaluator in together.items():
        alone, _ = build(model, **{name: EVERY[name]})
        assert values_of(evaluator, model.state) == values_of(alone[name], model.state)


def test_other_weights_are_embedded_anew_and_the_former_embeddings_dropped(world):
    data, model = world
    context = model.context()
    zero_shot = make(
        ZeroShot, context, name="zs", **{k: v for k, v in ZERO_SHOT.items() if k != "type"}
    )
    state = model.state
    before = values_of(zero_shot, state)
    former = weakref.ref(context.embedded(state.params, zero_shot.gallery(state).data).image_NE)
    model.image_NE = model.image_NE[::-1].copy()
    assert values_of(zero_shot, model.state) != before
    assert len(data.passes) == 2 and former() is None
    assert values_of(zero_shot, state) == before
    assert len(data.passes) == 3


def test_splits_of_other_preprocessing_or_batches_are_not_shared(world):
    data, model = world
    built, _ = build(model, a=CONTRASTIVE, b=CONTRASTIVE | {"batch_size": 512})
    for evaluator in built.values():
        values_of(evaluator, model.state)
    assert len(data.passes) == 2
