"""Traces of some steps, in the formats of TensorBoard and Perfetto."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from clipa_jax.errors import ConfigError
from clipa_jax.training import profiling


def test_a_trace_of_two_steps_opens_in_tensorboard_and_perfetto(tmp_path):
    step_of = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.ones((64, 64))
    with profiling.trace((2, 3), tmp_path) as trace:
        for step in range(1, 6):
            trace.begin(step)
            x = step_of(x)
            trace.end(step, x)
    [folder] = (tmp_path / "plugins" / "profile").iterdir()
    assert len(list(folder.glob("*.xplane.pb"))) == 1  # for TensorBoard
    with gzip.open(folder / profiling.PERFETTO) as file:
        events = json.load(file)["traceEvents"]
    assert any("jit" in str(event.get("name")) for event in events)


def test_a_trace_ends_with_the_stage(tmp_path):
    with profiling.trace((1, 9), tmp_path) as trace:
        trace.begin(1)
    assert len(list(tmp_path.glob(f"plugins/profile/*/{profiling.PERFETTO}"))) == 1


def test_without_steps_nothing_is_traced(tmp_path):
    with profiling.trace((), tmp_path) as trace:
        trace.begin(1)
        trace.end(1, jnp.ones(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [(5,), (0, 3), (7, 3), (1, 2, 3)])
def test_other_profile_steps_are_refused(steps):
    with pytest.raises(ConfigError, match="expected the first and the last step"):
        profiling.check(steps)


def test_profile_steps_of_a_config():
    assert profiling.check([100, 105]) == (100, 105)
    assert profiling.check(()) == ()
