import numpy as np
import pytest

from clipa_jax.errors import DataError
from clipa_jax.evaluators.contrastive import Contrastive
from tests.evaluators.conftest import make, values_of

HELD_OUT = {"name": "con", "source": "fake", "split": "heldout"}


def loss(model, **options):
    env = model.context(**options.pop("env", {}))
    return values_of(make(Contrastive, env, **HELD_OUT, **options), model.state)["loss"]


def test_loss_over_all_pairs_by_hand(world):
    _, model = world
    text = np.stack([model.text_ME[model.texts[f"caption {i}"]] for i in range(11)])
    for cap, scale in ((None, 10.0), (4.0, 4.0)):
        logits = scale * model.image_NE @ text.T
        both = np.log(np.exp(logits).sum(0)) + np.log(np.exp(logits).sum(1))
        want = np.mean(both / 2 - np.diagonal(logits))
        got = loss(model, env={"temperature_max": cap}, batch_size=4)
        assert got == pytest.approx(want, rel=1e-5)


def test_batches_depend_on_ids_and_not_on_the_order_of_reading(world):
    data, model = world
    first = loss(model, candidates=4, batch_size=4)
    data.rows = data.rows[::-1]
    assert loss(model, candidates=4, batch_size=8) == pytest.approx(first, rel=1e-6)


def test_missing_caption_is_an_error(world):
    _, model = world
    with pytest.raises(DataError, match="caption=1, but a picture has 1 captions"):
        loss(model, caption=1)
    with pytest.raises(DataError, match="candidates=1 must be at least 2"):
        loss(model, candidates=1)
