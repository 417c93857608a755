"""Mixtures: whose turn it is, in numbers alone; and batches of them."""

import itertools

import numpy as np
import pytest

from clipa_jax.config import schema
from clipa_jax.config.settings import Settings
from clipa_jax.data import eval_batches, mixing, pipeline, sources
from clipa_jax.data.order import GlobalOrder, LaneOrder, Shards
from clipa_jax.data.sources import mixture
from clipa_jax.errors import DataError
from tests.data.conftest import numbers, sample, settings, write_tfrecords
from tests.helpers import writers


def schedule(weights, lanes=16) -> mixing.Schedule:
    return mixing.Schedule(mixing.whole_weights(weights), lanes)


WEIGHTS = [(0.5, 0.5), (0.7, 0.3), (5, 3, 2), (1, 1, 1, 1, 1), (0.999, 0.001), (0.01, 0.01, 0.98)]


def test_whole_weights():
    assert mixing.whole_weights((3, 1)) == (3 << 18, 1 << 18)
    assert sum(mixing.whole_weights((1, 1, 1))) == 1 << 20
    assert min(mixing.whole_weights((1, 1e-12))) == 1


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_prefix_has_its_shares(weights):
    lanes, turns = 16, 3000
    plan, share_J = schedule(weights, lanes), np.array(weights) / sum(weights)
    given = [plan.before(np.full(turns, lane), np.arange(turns)) for lane in range(lanes)]
    error_LJX = np.array(given) - share_J[:, None] * np.arange(turns)
    assert np.abs(error_LJX).max() < len(weights) - 1 + 0.01  # in each lane
    # All lanes together, after whole turns: much less than that of the lanes added up.
    assert np.abs(error_LJX.sum(0)).max() < (1.02 if len(weights) == 2 else lanes / 3)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_turns_are_given_once_each(weights):
    plan, turns = schedule(weights), 2000
    for lane in (0, 5, 15):
        lane_X = np.full(turns, lane)
        component, number = plan.pick(lane_X, np.arange(turns))
        for j in range(len(weights)):
            assert (number[component == j] == np.arange((component == j).sum())).all()
        # Asked for far away, and alone.
        far = 10**12 + 7
        one = plan.pick(lane_X[:1], np.array([far]))
        assert one[1] == plan.before(lane_X[:1], np.array([far]))[one[0][0], 0]


def test_lanes_do_not_turn_together():
    component, _ = schedule((0.5, 0.5)).pick(np.arange(16), np.zeros(16, np.int64))
    assert 6 <= component.sum() <= 10


def mixed(lengths=((13, 9, 40), (50,)), weights=(0.7, 0.3), lanes=4) -> mixing.MixedOrder:
    shards = [Shards(f"part{n}", np.array(x, np.int64)) for n, x in enumerate(lengths)]
    parts = (LaneOrder(shards[0], 3, lanes, 5), GlobalOrder(shards[1], 3))
    first = np.cumsum([0, *(len(x) for x in lengths[:-1])])
    return mixing.MixedOrder(parts, schedule(weights, lanes), first)


def test_each_component_has_each_sample_once_an_epoch():
    order = mixed()
    shard, index = order.locate(np.arange(2000))
    begins = np.array([0, 13, 22, 0])
    for component, total in ((shard < 3, 62), (shard == 3, 50)):
        places = (begins[shard] + index)[component]
        counts = np.bincount(places, minlength=total)
        # Lanes are not in step, so the last epoch is ragged at its end.
        assert len(counts) == total and counts.max() - counts.min() <= 1
    assert abs((shard < 3).sum() - 1400) <= 4


def test_fingerprint():
    prints = {
        mixed().fingerprint,
        mixed(weights=(0.6, 0.4)).fingerprint,
        mixed(lanes=2).fingerprint,
    }
    assert len(prints) == 3 and mixed().fingerprint in prints


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("tfds:a", None),
        ("tfrecord:a+b,c", None),
        (
            "0.7*tfds:a + 0.3*webdataset:{0..3}.tar",
            [("tfds:a", 0.7), ("webdataset:{0..3}.tar", 0.3)],
        ),
        ("tfds:a + tfds:b", [("tfds:a", None), ("tfds:b", None)]),
        ({"tfds:a": 7, "tfds:b": 3}, [("tfds:a", 7.0), ("tfds:b", 3.0)]),
        ((("tfds:a", 7), ("tfds:b", 3)), [("tfds:a", 7.0), ("tfds:b", 3.0)]),
        (["tfds:a", "tfds:b"], [("tfds:a", None), ("tfds:b", None)]),
    ],
)
def test_forms(spec, expected):
    assert mixture.parts(spec) == expected


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[str]:
    """Samples 0..39 in tars, 40..79 in TFRecords, 80..99 in a folder."""
    folder = tmp_path_factory.mktemp("parts")
    samples = [sample(number) for number in range(100)]
    return [
        writers.write_tars(folder / "a", samples[:40], (25, 15)),
        write_tfrecords(folder / "b", samples[40:80], (10, 30)),
        writers.write_folder(folder / "c", samples[80:]),
    ]


def stream(config, steps, position=None, **hosts):
    data = pipeline.train_data(config, seed=0, **hosts)
    found = list(itertools.islice(data.start(position), steps))
    return [numbers(batch["image"]) for batch, _ in found], [position for _, position in found]


@pytest.mark.parametrize("cache", ["none", "encoded"])
def test_batches_resume_and_hosts(parts, cache):
    spec = tuple(zip(parts, (0.5, 0.25, 0.25), strict=True))
    config = settings(spec, cache=cache, batch_size=16, lanes=4)
    whole, positions = stream(config, 10)
    component = np.digitize(list(itertools.chain(*whole)), [40, 80])
    assert np.abs(np.bincount(component) - [80, 40, 40]).max() <= 4
    seen = np.bincount(list(itertools.chain(*whole)), minlength=100)
    assert seen[:40].min() >= 1 and seen[80:].min() >= 1 and seen.max() <= 3
    rest, _ = stream(config, 5, positions[4])
    assert rest == whole[5:]
    shares = [
        stream(config, 3, positions[1], process_index=host, process_count=2)[0] for host in range(2)
    ]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole[2:5]


def test_a_string_is_the_same_mixture(parts):
    text = f"1*{parts[0]} + 1*{parts[1]}"
    pairs = tuple((part, 0.5) for part in parts[:2])
    assert stream(settings(text), 3)[0] == stream(settings(pairs), 3)[0]
    assert sources.open(parts[:2], "").weights == (40.0, 40.0)


def test_a_mixture_has_no_order_of_files(parts):
    with pytest.raises(DataError, match="name one source"):
        eval_batches.Split(" + ".join(parts[:2]), "train", "decode|resize(8)", 8).batches()


@pytest.mark.parametrize("value", [{"tfds:a.b": 0.7, "folder:c": 0.3}, (("tfds:a.b", 1),)])
def test_a_config_may_hold_a_dict_or_pairs(value):
    c = schema.default()
    c.input.source = value
    found = Settings(c).input.source
    found = found.as_dict() if isinstance(found, Settings) else found
    assert mixture.parts(found) == [(k, float(v)) for k, v in dict(value).items()]
