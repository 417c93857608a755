import numpy as np

from clipa_jax.evaluators.class_embeddings import ClassEmbeddings
from clipa_jax.evaluators.weights_cache import WeightsCache
from clipa_jax.evaluators.zero_shot import ZeroShot
from tests.evaluators.conftest import make, values_of

SENTENCES = ("{}", "a {}")


def counting(model):
    """The shared text side of a model, and how many texts it was asked to tokenize, each time."""
    asked = []

    def tokenize(texts):
        asked.append(len(texts))
        return model.tokenize(texts)

    return ClassEmbeddings(model.context().encoders, tokenize, WeightsCache()), asked


def of(shared, model, names, sentences=SENTENCES, batch_size=8):
    params = model.state.params
    return shared.of(params, names, sentences, canonicalize=False, batch_size=batch_size)


def test_a_class_is_the_unit_mean_of_its_unit_prompts_in_any_batch(world):
    _, model = world
    names = [f"class {c}" for c in range(7)]
    for size in (1, 8, 64):  # batches end inside a class
        shared, _ = counting(model)
        for name, z_E in zip(names, of(shared, model, names, batch_size=size), strict=True):
            texts = [name, f"a {name}"]
            mean_E = np.mean([model.text_ME[model.texts[text]] for text in texts], axis=0)
            np.testing.assert_allclose(z_E, mean_E / np.linalg.norm(mean_E), rtol=1e-5)


def test_names_are_embedded_once_for_all_who_ask(world):
    _, model = world
    shared, asked = counting(model)
    whole = of(shared, model, ["class 0", "class 1", "class 2", "class 1"])
    assert asked == [6]
    np.testing.assert_array_equal(whole[1], whole[3])
    part = of(shared, model, ["class 2", "class 3", "class 0"])
    assert asked == [6, 2]
    np.testing.assert_array_equal(part[[0, 2]], whole[[2, 0]])
    of(shared, model, ["class 0"], ("{}",))
    assert asked == [6, 2, 1]


def test_other_weights_are_embedded_anew_but_not_tokenized_again(world):
    _, model = world
    shared, asked = counting(model)
    before = of(shared, model, ["class 0", "class 1"])
    model.text_ME = model.text_ME[::-1].copy()
    after = of(shared, model, ["class 0", "class 1"])
    assert not np.allclose(before, after)
    assert asked == [4]


def test_evaluators_share_the_text_side(world):
    _, model = world
    asked = []

    def tokenize(texts):
        asked.append(len(texts))
        return model.tokenize(texts)

    env = model.context(tokenize=tokenize)
    data = {"context": env, "source": "fake", "split": "heldout", "label": "concept"}
    for name in ("one", "two"):
        values_of(make(ZeroShot, name=name, **data), model.state)
    assert asked == [7]
