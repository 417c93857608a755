import pytest

from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.errors import CheckpointError
from clipa_jax.training import origin

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def config(vocab, **model):
    c = schema.default()
    c.input.vocab = str(vocab)
    c.model.update(model)
    return c


@pytest.fixture
def vocabularies(tmp_path):
    """Paths of vocabularies by name."""
    words = {"first": ["cat", "dog"], "copy": ["cat", "dog"], "other": ["dog", "cat"]}
    for name, pieces in words.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(SPECIAL + pieces) + "\n")
    return {name: tmp_path / f"{name}.txt" for name in [*words, "missing"]}


def check(old, new, edits=()):
    origin.check("W/pretrain", old, Settings(new), edits)


def test_weights_of_another_vocabulary_are_refused(vocabularies):
    old, new = config(vocabularies["first"]), config(vocabularies["other"])
    with pytest.raises(CheckpointError, match=r"W/pretrain .*first\.txt of 7 .*fresh:txt/Embed_0"):
        check(old, new)


def test_weights_of_an_equal_vocabulary_in_another_file_are_accepted(vocabularies, caplog):
    check(config(vocabularies["first"]), config(vocabularies["copy"]))
    assert not caplog.records


@pytest.mark.parametrize("edit", ["fresh:txt/Embed_0/embedding", "fresh:txt/.*"])
def test_a_fresh_token_table_may_have_another_vocabulary(vocabularies, edit):
    old, new = config(vocabularies["first"]), config(vocabularies["other"])
    check(old, new, (edit,))
    with pytest.raises(CheckpointError):
        check(old, new, ("fresh:txt/head/.*", "text_positions"))


@pytest.mark.parametrize("name", ["missing", ""])
def test_a_vocabulary_that_cannot_be_compared_is_a_warning(vocabularies, name, caplog):
    check(config(vocabularies.get(name, "")), config(vocabularies["first"]))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_weights_without_a_config_are_accepted(vocabularies):
    check(None, config(vocabularies["first"]))


@pytest.mark.parametrize("key", ["mean", "std"])
def test_other_pixel_statistics_are_a_warning(vocabularies, key, caplog):
    old = config(vocabularies["first"], **{key: (0.5, 0.5, 0.5)})
    check(old, config(vocabularies["first"]))
    assert [f"model.{key}=" in record.getMessage() for record in caplog.records] == [True]
