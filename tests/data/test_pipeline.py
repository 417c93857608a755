"""Batches from tiny datasets: order, resume, hosts, bad samples, evaluation."""

import itertools
import shutil

import numpy as np
import pytest

from clipa_jax.data import eval_batches, pipeline
from clipa_jax.errors import ConfigError, DataError
from tests.data.conftest import (
    LENGTHS,
    TOTAL,
    numbers,
    sample,
    settings,
    write_tfrecords,
)

CACHES = ["none", "encoded"]


def run(config, steps, *, position=None, seed=0, hosts=1, host=0):
    """The samples of each batch, and the positions after them."""
    data = pipeline.train_data(config, seed=seed, process_index=host, process_count=hosts)
    return take(data, steps, position)


def take(data, steps, position=None):
    """Likewise, of data that is there already."""
    found = list(itertools.islice(data.start(position), steps))
    return [numbers(batch["image"]) for batch, _ in found], [position for _, position in found]


@pytest.mark.parametrize("cache", CACHES)
def test_each_sample_once_an_epoch_over_batches_that_span_two(tfds_spec, cache):
    batches, _ = run(settings(tfds_spec, cache=cache), 3 * TOTAL // 8)
    seen = list(itertools.chain(*batches))
    # Lanes are not in step inside a batch, so the batch at the border belongs to both epochs.
    inside = seen[: TOTAL // 8 * 8]
    assert len(set(inside)) == len(inside)
    counts = np.bincount(seen, minlength=TOTAL)
    assert counts.sum() == len(seen) and counts.min() >= 2 and counts.max() <= 3


@pytest.mark.parametrize("cache", CACHES)
def test_exactly_once_when_batches_divide_the_epoch(tfds_spec, cache):
    config = settings(tfds_spec, cache=cache, batch_size=10, lanes=5)
    batches, _ = run(config, 2 * TOTAL // 10)
    first, second = batches[: TOTAL // 10], batches[TOTAL // 10 :]
    assert sorted(itertools.chain(*first)) == list(range(TOTAL))
    assert sorted(itertools.chain(*second)) == list(range(TOTAL))
    assert first != second


def test_the_fingerprint_is_that_of_the_samples(tfds_spec, tmp_path):
    """Wherever they lie, in whatever order they come."""

    def of(spec, **changes):
        return pipeline.train_data(settings(spec, **changes), seed=len(changes)).fingerprint

    moved = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tfds_spec.removeprefix("tfds:"), moved)
    assert of(tfds_spec) == of(f"tfds:{moved}", cache="encoded", batch_size=4)
    assert of(tfds_spec) != of(tfds_spec, split="test")
    both = f"1*{tfds_spec} + 2*tfds:{moved}"
    assert of(both) == of(f"0.5*{tfds_spec} + 1*tfds:{moved}", order="lanes")
    assert len({of(tfds_spec), of(both), of(f"1*{tfds_spec} + 1*tfds:{moved}")}) == 3


@pytest.mark.parametrize("cache", CACHES)
def test_runs_are_alike_and_seeds_differ(tfds_spec, cache):
    config = settings(tfds_spec, cache=cache)
    assert run(config, 5) == run(config, 5)
    assert run(config, 5)[0] != run(config, 5, seed=1)[0]


@pytest.mark.parametrize(("cache", "window"), [("none", 1), ("none", 16), ("encoded", 1000)])
def test_resume_continues_with_the_next_batch(tfds_spec, cache, window):
    config = settings(tfds_spec, cache=cache, shuffle_window=window)
    data = pipeline.train_data(config, seed=0)
    batches, positions = take(data, 20)
    for done in (1, 6, 19):  # 6: at the border of an epoch
        rest, ends = take(data, 20 - done, positions[done - 1])
        assert rest == batches[done:]
        assert ends == positions[done:]


@pytest.mark.parametrize(("cache", "hosts"), [("none", 4), ("encoded", 2)])
def test_hosts_share_the_same_global_batches(tfds_spec, cache, hosts):
    config = settings(tfds_spec, cache=cache)
    whole, positions = run(config, 14)
    shares = [run(config, 14, hosts=hosts, host=host) for host in range(hosts)]
    for step in range(14):
        assert list(itertools.chain(*(share[0][step] for share in shares))) == whole[step]
        assert all(share[1][step] == positions[step] for share in shares)


def test_hosts_that_do_not_divide_the_lanes(tfds_spec):
    config = settings(tfds_spec, batch_size=12, lanes=4)
    whole, _ = run(config, 10)
    shares = [run(config, 10, hosts=3, host=host)[0] for host in range(3)]
    assert [list(itertools.chain(*rows)) for rows in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("cache", CACHES)
def test_the_number_of_hosts_may_change_in_an_epoch(tfds_spec, cache):
    config = settings(tfds_spec, cache=cache)
    whole, positions = run(config, 12)
    shares = [run(config, 9, position=positions[2], hosts=2, host=host)[0] for host in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole[3:]


@pytest.mark.parametrize("cache", CACHES)
def test_formats_with_the_same_content_give_the_same_batches(tfds_spec, tfrecord_spec, cache):
    changes = {"cache": cache, "res": 6, "preprocess": "decode|inception_crop({res})|jitter(0.4)"}
    streams = [
        pipeline.train_data(settings(spec, **changes), seed=5).start()
        for spec in (tfds_spec, tfrecord_spec)
    ]
    for (a, _), (b, _) in itertools.islice(zip(*streams, strict=True), 9):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_augmentation_follows_the_sample_not_the_host_or_the_start(tfds_spec):
    config = settings(tfds_spec, preprocess="decode|resize({res})|jitter(0.8)")
    whole = list(itertools.islice(pipeline.train_data(config, seed=1).start(), 4))
    part = pipeline.train_data(config, seed=1, process_index=1, process_count=2)
    (batch, _), *_ = itertools.islice(part.start(whole[2][1]), 1)
    np.testing.assert_array_equal(batch["image"], whole[3][0]["image"][4:])
    assert len({image.tobytes() for image in whole[0][0]["image"]}) == 8


def test_spec_and_length(tfds_spec):
    data = pipeline.train_data(settings(tfds_spec), seed=0, process_index=1, process_count=2)
    assert data.num_examples == TOTAL
    assert {k: (v.shape, v.dtype) for k, v in data.spec.items()} == {
        "image": ((8, 8, 8, 3), np.uint8)
    }
    batch, position = next(data.start())
    assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert position["samples"] == 8


def test_a_position_of_another_order_is_refused(tfds_spec):
    _, positions = run(settings(tfds_spec), 1)
    with pytest.raises(DataError, match="another order"):
        run(settings(tfds_spec), 1, position=positions[0], seed=1)


BAD = {5, 20, 33}
WORDS = "decode|resize({res})|choose_caption"  # an op that needs captions


@pytest.fixture(scope="module")
def bad_spec(tmp_path_factory):
    """One sample each that cannot be decoded, has no image, or no words."""
    samples = [sample(number) for number in range(TOTAL)]
    samples[5]["image"] = samples[5]["image"][:40]
    samples[20]["image"] = None
    samples[33]["captions"] = ["  ", ""]
    return write_tfrecords(tmp_path_factory.mktemp("bad"), samples)


@pytest.mark.parametrize("cache", CACHES)
def test_bad_samples_are_replaced_and_counted(bad_spec, cache, caplog):
    config = settings(
        bad_spec, cache=cache, batch_size=10, lanes=5, max_skip_percent=10.0, preprocess=WORDS
    )
    data = pipeline.train_data(config, seed=0)
    batches = [numbers(b["image"]) for b, _ in itertools.islice(data.start(), TOTAL // 10)]
    seen = list(itertools.chain(*batches))
    assert set(seen) == set(range(TOTAL)) - BAD
    assert data.skipped() == {"decode": 1, "missing_key": 1, "empty_caption": 1}
    named = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert any("00000.tfrecord sample 5 (decode)" in line for line in named)
    assert any(f"00001.tfrecord sample {20 - LENGTHS[0]} (missing_key)" in line for line in named)


def test_captions_may_lack_where_no_op_needs_them(bad_spec):
    config = settings(bad_spec, batch_size=10, lanes=5, max_skip_percent=10.0)
    data = pipeline.train_data(config, seed=0)
    seen = [numbers(b["image"]) for b, _ in itertools.islice(data.start(), TOTAL // 10)]
    assert set(itertools.chain(*seen)) == set(range(TOTAL)) - {5, 20}
    assert data.skipped() == {"decode": 1, "missing_key": 1}


@pytest.mark.parametrize("cache", CACHES)
def test_bad_samples_do_not_move_the_others(tfrecord_spec, bad_spec, cache):
    """Good rows stay where they are, for any number of hosts."""
    changes = {"cache": cache, "batch_size": 16, "max_skip_percent": 10.0}
    clean, _ = run(settings(tfrecord_spec, **changes), 6)
    dirty, _ = run(settings(bad_spec, **changes), 6)
    for good, found in zip(clean, dirty, strict=True):
        for row, number in enumerate(good):
            assert found[row] == number or number in BAD
            assert found[row] in good
    shares = [run(settings(bad_spec, **changes), 6, hosts=2, host=host)[0] for host in range(2)]
    for step, good in enumerate(clean):
        both = shares[0][step] + shares[1][step]
        assert all(b == g or g in BAD for b, g in zip(both, good, strict=True))


def test_too_many_bad_samples_stop_the_run(bad_spec):
    with pytest.raises(DataError, match=r"max_skip_percent=1.0.*decode.*00000.tfrecord sample 5"):
        run(settings(bad_spec, batch_size=10, lanes=5), 6)


def test_a_file_that_shrinks_during_the_run_is_counted(tmp_path):
    spec = write_tfrecords(tmp_path, [sample(number) for number in range(TOTAL)])
    data = pipeline.train_data(settings(spec, batch_size=10, max_skip_percent=50.0), seed=0)
    shard = tmp_path / "00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])  # the last record of the shard is cut
    batches = [numbers(b["image"]) for b, _ in itertools.islice(data.start(), TOTAL // 10)]
    assert data.skipped() == {"unreadable": 1}
    assert set(itertools.chain(*batches)) == set(range(TOTAL)) - {sum(LENGTHS[:3]) - 1}


def test_all_samples_bad_is_an_error_not_a_hang(tmp_path):
    samples = [{**sample(number), "image": b"junk"} for number in range(12)]
    spec = write_tfrecords(tmp_path, samples, lengths=(12,))
    with pytest.raises(DataError, match="8 of 8 samples"):
        run(settings(spec), 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": ""}, DataError, "source is empty"),
        ({"source": "data/emoji"}, DataError, "expected KIND:WHERE"),
        ({"source": "tfd:x"}, DataError, "nearest: tfds"),
        ({"source": "tfds:/nowhere"}, DataError, "looked for /nowhere/dataset_info.json"),
        ({"source": "tfds:no_such_dataset"}, DataError, "neither a folder"),
        ({"source": "tfrecord:/nowhere/*.tfrecord"}, DataError, "no files match /nowhere/"),
        ({"split": "trian"}, DataError, "nearest: train"),
        ({"preprocess": "decode"}, ConfigError, "no fixed shape"),
        ({"preprocess": "decode|resize({rez})"}, ConfigError, "nearest: res"),
        ({"preprocess": "decode|resise(8)"}, ConfigError, "nearest: resize"),
        ({"cache": "all"}, ConfigError, "config.input.cache"),
    ],
)
def test_bad_configs(tfds_spec, changes, error, message):
    with pytest.raises(error, match=message):
        pipeline.train_data(settings(**{"source": tfds_spec, **changes}), seed=0)


def test_batch_that_hosts_do_not_divide(tfds_spec):
    with pytest.raises(DataError, match="batch 8 is not divisible by 3 hosts; nearest: 9"):
        pipeline.train_data(settings(tfds_spec), seed=0, process_index=0, process_count=3)


def test_missing_file_and_missing_feature(tmp_path):
    spec = write_tfrecords(tmp_path, [{"id": "x"}] * 3, lengths=(3,))
    with pytest.raises(DataError, match="no image among the features key"):
        pipeline.train_data(settings(spec), seed=0)
    empty = write_tfrecords(tmp_path / "empty", [], lengths=(0,))
    with pytest.raises(DataError, match="is empty"):
        pipeline.train_data(settings(empty), seed=0)


def evaluate(spec, split="train", *, hosts=1, host=0, size=16, features=("label", "id")):
    data = eval_batches.Split(spec, split, "decode|resize(8)", size, features)
    return list(data.batches(process_index=host, process_count=hosts))


def test_evaluation_is_one_pass_in_order_with_a_padded_end(tfds_spec):
    batches = evaluate(tfds_spec)
    assert [len(batch["image"]) for batch in batches] == [16] * 4
    mask = np.concatenate([batch["_mask"] for batch in batches])
    assert mask.dtype == bool and mask.sum() == TOTAL and mask[:TOTAL].all()
    images = np.concatenate([batch["image"] for batch in batches])[mask]
    assert numbers(images) == list(range(TOTAL))
    labels = np.concatenate([batch["label"] for batch in batches])[mask]
    assert labels.tolist() == [number % 3 for number in range(TOTAL)]
    assert np.concatenate([b["id"] for b in batches])[3] == b"id3"


@pytest.mark.parametrize("hosts", [2, 4])
def test_evaluation_hosts_have_equally_many_batches(tfds_spec, hosts):
    whole = evaluate(tfds_spec)
    shares = [evaluate(tfds_spec, hosts=hosts, host=host) for host in range(hosts)]
    assert {len(share) for share in shares} == {len(whole)}
    for step, batch in enumerate(whole):
        for key in ("image", "_mask", "label"):
            joined = np.concatenate([share[step][key] for share in shares])
            np.testing.assert_array_equal(joined, batch[key])


@pytest.mark.parametrize("split", ["train", "test"])
def test_evaluation_passes_captions(tfds_spec, split):
    rows = [c for b in evaluate(tfds_spec, split, features=("captions",)) for c in b["captions"]]
    assert rows[2] == [b"picture 2", b"number 2"]


def test_evaluation_masks_bad_samples(bad_spec):
    batches = evaluate(bad_spec, features=("label",))
    mask = np.concatenate([batch["_mask"] for batch in batches])
    assert np.flatnonzero(~mask[:TOTAL]).tolist() == [5, 20]


def test_evaluation_errors(tfds_spec):
    with pytest.raises(DataError, match="nearest: label"):
        evaluate(tfds_spec, features=("lable",))
    with pytest.raises(DataError, match="no split 'tset'; nearest: test"):
        evaluate(tfds_spec, "tset")
    with pytest.raises(DataError, match="is empty"):
        evaluate(tfds_spec, "none")
    with pytest.raises(DataError, match="not divisible"):
        evaluate(tfds_spec, size=5, hosts=2)


def test_pictures_are_decoded_by_position_as_in_the_pass_over_the_split(tfds_spec, tfrecord_spec):
    position_N = np.array([40, 3, 17, 3])
    for spec in (tfds_spec, tfrecord_spec):  # by index, and from files that are read in order
        whole = np.concatenate([batch["image"] for batch in evaluate(spec, features=("id",))])
        chosen = eval_batches.Split(spec, "train", "decode|resize(8)", 16).pictures(position_N)
        np.testing.assert_array_equal(chosen, whole[position_N])
    with pytest.raises(DataError, match=f"{TOTAL} samples, but position {TOTAL} is asked for"):
        eval_batches.Split(tfds_spec, "train", "decode|resize(8)", 16).pictures(np.array([TOTAL]))
