"""Options of XLA from the config."""

import pytest

from clipa_jax.errors import ConfigError
from clipa_jax.training import program

OPTIONS = "xla_tpu_a=1 --xla_cpu_b=true xla_jf_c=x=y xla_d="


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("tpu", {"xla_tpu_a": "1", "xla_jf_c": "x=y", "xla_d": ""}),
        ("cpu", {"xla_cpu_b": True, "xla_d": ""}),
    ],
)
def test_options_of_other_devices_are_left_out(platform, expected):
    assert program.compiler_options(OPTIONS, platform) == expected


def test_an_option_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="expected NAME=VALUE, got 'xla_tpu_a'"):
        program.compiler_options("xla_tpu_a", "tpu")
