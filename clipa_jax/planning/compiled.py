"""The training step of a stage as the TPU compiler sees it, without a TPU."""

import math
import re
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from clipa_jax import sharding
from clipa_jax.config.settings import Settings
from clipa_jax.planning import hlo, topology
from clipa_jax.planning.work import Work
from clipa_jax.training import program

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# "... (92.69G) exceeds available HBM (15.75G)" and, of older compilers, "Used 27.3G of 15.75G hbm".
_TOO_MUCH = re.compile(
    r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"
    r"|Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip.

    Attributes:
      arguments: state and batch, which live through the step.
      temporaries: what the step needs beside them, its code included.
      limit: what the compiler may use.
    """

    arguments: float
    temporaries: float
    limit: float

    @property
    def total(self) -> float:
        return self.arguments + self.temporaries

    @property
    def excess(self) -> float:
        """By how much it does not fit; 0 or less where it does."""
        return self.total - self.limit


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of a stage.

    Attributes:
      memory: of one chip.
      counts: of one chip and one step; None where the step does not fit.
      seconds: that compiling took.
    """

    memory: Memory
    counts: hlo.Counts | None
    seconds: float

    @property
    def fits(self) -> bool:
        return self.counts is not None


def compile_step(work: Work, place: topology.Slice) -> Compiled:
    """Compiles the step of a stage for a slice; whether it fits is part of the answer.

    Raises:
      ConfigError: the batch or the mesh does not fit the slice.
    """
    began = time.monotonic()
    lowered, arguments = lower(work, place)
    try:
        made = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        asked = _too_much(str(error))
        if asked is None:
            raise
        memory = Memory(arguments, asked[0] - arguments, asked[1])
        return Compiled(memory, None, time.monotonic() - began)
    stats: Any = made.memory_analysis()
    arguments = stats.argument_size_in_bytes
    beside = stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    beside += stats.output_size_in_bytes - stats.alias_size_in_bytes
    memory = Memory(arguments, beside, limit(place))
    return Compiled(memory, hlo.count(made.as_text() or ""), time.monotonic() - began)


def lower(work: Work, place: topology.Slice) -> tuple[jax.stages.Lowered, float]:
    """(the step, traced; bytes of its arguments on one chip)."""
    c = Settings(work.config)
    mesh = c.mesh.call(sharding.make_mesh, devices=place.devices)
    sharding.check_batch(work.plan.batch_size, mesh)
    made = program.build(c, mesh, work.plan, program.batch_spec(c.input))
    leaves = jax.tree.leaves(made.spec.shapes)
    state = sum(_bytes(one.sharding.shard_shape(one.shape), one.dtype) for one in leaves)
    batch = sum(_bytes(one.shape, one.dtype) for one in made.spec.batch.values())
    parts = mesh.shape["replica"] * mesh.shape["fsdp"]
    return made.lower(), float(state + batch / parts)


def limit(place: topology.Slice) -> float:
    """Bytes of a chip that the compiler may use: read off its refusal of far too much."""
    one = SingleDeviceSharding(place.devices[0])
    far_too_much = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=one)
    try:
        jax.jit(lambda x: x).lower(far_too_much).compile()
    except jax.errors.JaxRuntimeError as error:
        asked = _too_much(str(error))
        if asked is not None:
            return asked[1]
    return place.chip.memory


def _too_much(message: str) -> tuple[float, float] | None:
    """(bytes asked for, bytes there are) from the compiler's refusal; None if it is no such."""
    found = _TOO_MUCH.search(message)
    if found is None:
        return None
    asked, asked_unit, there, there_unit = (group for group in found.groups() if group is not None)
    return float(asked) * _UNITS[asked_unit], float(there) * _UNITS[there_unit]


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    # A key of JAX's is two 32-bit words.
    is_key = jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    return math.prod(shape) * (8 if is_key else dtype.itemsize)
