"""Descriptions of TPU slices for the compiler, from the `libtpu` wheel; needs no TPU."""

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from clipa_jax.errors import ConfigError, install, unknown
from clipa_jax.planning import chips
from clipa_jax.runtime import quiet

# Of each generation: the number of axes of its slices, and options of libtpu. The two cores of a
# v4 chip are one device, as on a real slice; libtpu's default is two.
GENERATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "v4": (3, {"chip_config_name": "megacore"}),
    "v5e": (2, {}),
    "v5p": (3, {}),
    "v6e": (2, {}),
}


@dataclass(frozen=True)
class Slice:
    """A TPU slice, such as `v5e:8x8`."""

    name: str
    chip: chips.Chip
    devices: list[Any]  # descriptions, which `jax.make_mesh` takes as devices


def available() -> bool:
    """Whether the libtpu wheel is installed."""
    return importlib.util.find_spec("libtpu") is not None


def find(name: str) -> Slice:
    """The slice of a name such as `v5e:8x8` or `v4:2x2x4`, if libtpu is there and knows it."""
    chip, options = parse(name)
    if not available():
        raise ConfigError(
            f"--topology={name} needs the TPU compiler: {install('tpu')}; or estimate with "
            f"--device={chip.name} --chips=N"
        )
    quiet.libtpu()
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"libtpu refuses the topology {name}: {reason}") from None
    return Slice(name, chip, list(topology.devices))


def version() -> str:
    """Version of the installed libtpu."""
    return importlib.metadata.version("libtpu")


def parse(name: str) -> tuple[chips.Chip, dict[str, Any]]:
    """`v5e:8x8` -> (the chip, options of libtpu)."""
    kind, _, shape = name.partition(":")
    if kind not in GENERATIONS:
        raise ConfigError(unknown(f"TPU in --topology={name}:", kind, GENERATIONS))
    axes, options = GENERATIONS[kind]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) or shape.count("x") + 1 != axes:
        example = "x".join("4" * axes)
        raise ConfigError(f"--topology={name}: expected {axes} sizes, such as {kind}:{example}")
    return chips.chip(kind), options
