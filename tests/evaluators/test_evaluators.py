import pytest

from clipa_jax import evaluators
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators.contrastive import Contrastive
from clipa_jax.evaluators.zero_shot import ZeroShot

ZERO_SHOT = {"type": "zero_shot", "source": "fake", "split": "heldout", "label": "concept"}
CONTRASTIVE = {"type": "contrastive", "source": "fake", "split": "heldout"}


def build(model, **sections):
    settings = Settings(sections, "config.evals")
    return evaluators.build(settings, model.environment()), settings


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
        ({"env": 1}, "unknown key config.evals.zs.env"),
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
    built = evaluators.build(settings, model.environment(), missing)
    assert list(built) == ["con"] and list(missing) == ["gone"]
    assert "evaluator gone: no dataset elsewhere" in str(missing["gone"])
    with pytest.raises(ConfigError, match="nearest: zero_shot"):
        evaluators.build(Settings({"x": {"type": "zeroshot"}}), model.environment(), missing)
