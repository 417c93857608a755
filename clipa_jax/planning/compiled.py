"""Memory, FLOPs and traffic of a training step, from the TPU compiler on any machine."""

import math
import re
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh, SingleDeviceSharding

from clipa_jax import sharding
from clipa_jax.config.settings import Settings
from clipa_jax.planning import hlo, kernels, operations, topology, traced
from clipa_jax.planning.operations import Operation
from clipa_jax.planning.workload import Workload
from clipa_jax.training import program

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# "... (92.69G) exceeds available HBM (15.75G)" and, of older compilers, "Used 27.3G of 15.75G hbm".
_TOO_LARGE = re.compile(
    r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"
    r"|Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip."""

    arguments: float  # state and batch, which live through the step
    temporaries: float  # all else that the step needs, its code included
    limit: float  # available to the compiler

    @property
    def total(self) -> float:
        return self.arguments + self.temporaries

    @property
    def excess(self) -> float:
        """Bytes above the limit; 0 or less for a step that fits."""
        return self.total - self.limit


@dataclass(frozen=True)
class Traced:
    """The step of a stage before compilation."""

    step: jax.stages.Traced
    flops: float  # of one chip, recomputation included
    arguments: float  # bytes of state and batch on one chip


@dataclass(frozen=True)
class Compiled:
    """The step of a stage after compilation, on one chip."""

    memory: Memory
    flops: float  # recomputation included
    counts: hlo.Counts | None  # None for a step that does not fit
    seconds: float  # duration of the compilation
    operations: tuple[Operation, ...] = ()

    @property
    def fits(self) -> bool:
        return self.counts is not None


def compile_step(work: Workload, tpu_slice: topology.Slice) -> Compiled:
    """Compiles the step of a stage for a slice; a step that does not fit is a result, too."""
    began = time.monotonic()
    step = trace(work, tpu_slice)
    try:
        executable = step.step.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        sizes = parse_refusal(str(error))
        if sizes is None:
            raise
        needed, limit = sizes
        memory = Memory(step.arguments, needed - step.arguments, limit)
        return Compiled(memory, step.flops, None, time.monotonic() - began)
    stats: Any = executable.memory_analysis()
    temporaries = stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    temporaries += stats.output_size_in_bytes - stats.alias_size_in_bytes
    memory = Memory(stats.argument_size_in_bytes, temporaries, memory_limit(tpu_slice))
    text = executable.as_text() or ""
    counts = hlo.count(text)
    for name in kernels.without_schedule(counts.kernels, tpu_slice.chip):
        logging.warning(
            "the schedule of the kernel %s on %s is not recorded in planning/kernels.py: it counts "
            "as its memory traffic alone",
            name,
            tpu_slice.chip.name,
        )
    duration = time.monotonic() - began
    return Compiled(memory, step.flops, counts, duration, tuple(operations.read(text)))


def trace(work: Workload, tpu_slice: topology.Slice) -> Traced:
    """Traces the step of a stage for a slice; `ConfigError` if batch or mesh do not fit it."""
    c = Settings(work.config)
    mesh = c.mesh.call(sharding.make_mesh, devices=tpu_slice.devices)
    sharding.check_batch(work.durations.batch_size, mesh)
    training = program.build(c, mesh, work.durations, program.batch_spec(c.input))
    batch = sum(
        math.prod(array.shape) * array.dtype.itemsize for array in training.spec.batch.values()
    )
    step = training.trace()
    return Traced(
        step=step,
        flops=traced.flops(step) / _shares(training.spec.shapes.params, mesh),
        arguments=float(training.spec.bytes_per_device() + batch / sharding.data_parallel(mesh)),
    )


def memory_limit(tpu_slice: topology.Slice) -> float:
    """Bytes of a chip available to the compiler, read from its refusal of a huge array."""
    device = SingleDeviceSharding(tpu_slice.devices[0])
    huge = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=device)
    try:
        jax.jit(lambda x: x).lower(huge).compile()
    except jax.errors.JaxRuntimeError as error:
        sizes = parse_refusal(str(error))
        if sizes is not None:
            return sizes[1]
    return tpu_slice.chip.memory


def parse_refusal(message: str) -> tuple[float, float] | None:
    """(bytes needed, bytes available) from the compiler's error; None for another error."""
    match = _TOO_LARGE.search(message)
    if match is None:
        return None
    needed, needed_unit, limit, limit_unit = (g for g in match.groups() if g is not None)
    return float(needed) * _UNITS[needed_unit], float(limit) * _UNITS[limit_unit]


def _shares(params: Any, mesh: Mesh) -> int:
    """Chips that share the arithmetic: along `tensor` only where layers are split over it."""
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(params)]
    axes = {name for spec in specs for part in spec for name in jax.tree.leaves(part)}
    return mesh.size if "tensor" in axes else sharding.data_parallel(mesh)
