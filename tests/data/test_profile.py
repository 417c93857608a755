"""Stages of the pipeline are timed, and the slowest one is named when steps wait for it."""

import time

import numpy as np
import pytest
import tensorflow as tf

from clipa_jax.data import pipeline, profile
from clipa_jax.preprocess import registry
from tests.data.conftest import settings

SLOW = 0.02  # seconds a sample


@pytest.fixture
def doze(monkeypatch):
    """An op that does nothing, slowly."""

    def sleep(image):
        time.sleep(SLOW)
        return image

    def factory():
        def apply(sample):
            image = tf.numpy_function(sleep, [sample["image"]], tf.uint8)
            return {**sample, "image": tf.ensure_shape(image, sample["image"].shape)}

        return apply

    op = registry.Op(factory)
    monkeypatch.setitem(registry.OPS, "doze", op)


def data(source, preprocess):
    return pipeline.train_data(settings(source, preprocess=preprocess), seed=0)


def test_prefixes_grow_by_one_op_in_the_order_in_which_they_run():
    prefixes = profile.prefixes("decode|inception_crop(8)|jitter(0.4)|choose_caption")
    assert list(prefixes) == [
        "parse", "read_size", "choose_caption", "draw_box", "decode_box", "jitter"
    ]  # fmt: skip
    assert prefixes["parse"] == ""
    assert prefixes["draw_box"] == "read_size(8)|choose_caption()|draw_box(8)"
    assert prefixes["jitter"].endswith("|draw_box(8)|decode_box(8)|jitter(0.4)")


def test_the_last_prefix_is_equivalent_to_the_whole_string(tfds_spec):
    spec = "decode|inception_crop(8)|flip_lr"
    last = list(profile.prefixes(spec).values())[-1]
    (whole, _), (parts, _) = (next(data(tfds_spec, string).start()) for string in (spec, last))
    assert whole["image"].shape == parts["image"].shape


def test_every_stage_is_measured(tfds_spec, doze):
    spent = profile.measure(data(tfds_spec, "decode|doze|resize(8)"))
    assert list(spent) == ["read", "parse", "decode", "doze", "resize"]
    # How long each took is not asserted: a loaded machine may take longer to read than to doze.
    assert min(spent.values()) >= 0
    assert all(seconds >= 0 for seconds in spent.values())


def test_measuring_ends_when_the_run_does(tfds_spec):
    """Python waits for the thread, which must not go on through all stages."""
    answers = iter([True, False])
    spent = profile.measure(data(tfds_spec, "decode|resize(8)"), lambda: next(answers))
    assert list(spent) == [profile.READ, profile.PARSE]


def test_slow_reading_is_measured_as_such(tfds_spec, monkeypatch):
    slow = data(tfds_spec, "decode|resize(8)")
    read = slow.source.read

    def slowly(*args):
        def wait(record):
            time.sleep(SLOW)
            return record

        return read(*args).map(
            lambda record: tf.ensure_shape(
                tf.numpy_function(wait, [record], tf.string), record.shape
            )
        )

    monkeypatch.setattr(slow.source, "read", slowly)
    spent = profile.measure(slow)
    assert spent["read"] >= SLOW


def test_warning_names_the_slowest_stage_once_in_a_while(tfds_spec, doze, caplog, monkeypatch):
    times = {"read": 1e-5, "parse": 1e-5, "decode": 2e-4, "doze": 5e-3, "resize": 1e-4}
    monkeypatch.setattr(profile, "measure", lambda data, go_on: times)
    warn = profile.WaitWarning(data(tfds_spec, "decode|doze|resize(8)"), every=3_600.0)

    def said(share):
        caplog.clear()
        warn(share)
        warn.wait()
        return [record.getMessage() for record in caplog.records if "wait" in record.getMessage()]

    assert said(0.9) == []  # the first stretch has the start of the pipeline in it
    assert said(0.1) == []  # no more than what is allowed
    (line,) = said(0.34)
    assert line.startswith("steps wait for their input 34% of the time; its slowest stage is doze")
    assert "decode" in line and "resize" in line
    assert said(0.9) == []  # not again so soon


def test_a_warning_is_given_even_if_stages_cannot_be_timed(tfds_spec, monkeypatch, caplog):
    def fail(data, go_on):
        raise tf.errors.DataLossError(None, None, "gone")

    monkeypatch.setattr(profile, "measure", fail)
    warn = profile.WaitWarning(data(tfds_spec, "decode|resize(8)"))
    for share in (np.float64(0.5), 0.5):
        warn(share)
    warn.wait()
    assert any("50% of the time" in record.getMessage() for record in caplog.records)
