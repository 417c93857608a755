import json

import pytest

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.evaluators import prompts


def test_canonical_wording_is_that_of_the_released_evaluator():
    names = ["Flag: Peru", "black_and-white, small"]
    sentences = ["A photo of the {}.", "{}!"]
    assert prompts.prompts(names, sentences, canonicalize=True) == [
        "a photo of the flag peru",
        "flag peru",
        "a photo of the black andwhite, small",
        "black andwhite, small",
    ]
    assert prompts.prompts(names[:1], sentences, canonicalize=False) == [
        "A photo of the Flag: Peru.",
        "Flag: Peru!",
    ]


def test_every_prompt_file_says_where_it_is_from():
    names = [file.stem for file in prompts.TEMPLATES.glob("*.json")]
    assert {"plain", "photo"} <= set(names)
    for name in names:
        assert prompts.templates(name)
    assert prompts.templates("plain") == ("{}",)


def test_prompt_file_without_provenance_is_refused(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"templates": ["{}"]}))
    with pytest.raises(DataError, match="lacks licence, provenance"):
        prompts.templates(str(file))


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_template_takes_the_name_once(template):
    with pytest.raises(ConfigError, match="exactly once"):
        prompts.templates((template,))


def test_a_sentence_in_place_of_a_name_needs_the_slot():
    with pytest.raises(ConfigError, match="template 'a photo' has no {} for the name of a class"):
        prompts.templates("a photo")


def test_slug():
    assert prompts.slug("Smileys & Emotion") == "smileys_and_emotion"
