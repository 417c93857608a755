"""Devices at work: batches of noise, the rate of a matrix product, time and memory of a step."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding
from clipa_jax.training import program


def random_batch(training: program.Program) -> dict[str, jax.Array]:
    """A batch of noise of the program's shapes, made on its devices."""
    split = sharding.batch_sharding(training.mesh)
    vocab = training.model.txt.config.vocab_size

    def noise(name: str, spec: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
        if jnp.issubdtype(spec.dtype, jnp.floating):
            return jax.random.uniform(key, spec.shape, spec.dtype)
        highest = 256 if name == "image" else vocab
        return jax.random.randint(key, spec.shape, 0, highest, jnp.int32).astype(spec.dtype)

    def make() -> dict[str, jax.Array]:
        keys = jax.random.split(jax.random.key(0), len(training.spec.batch))
        specs = training.spec.batch.items()
        return {name: noise(name, spec, key) for (name, spec), key in zip(specs, keys, strict=True)}

    return jax.jit(make, out_shardings=dict.fromkeys(training.spec.batch, split))()


def matrix_rate(mesh: Mesh, dtype: str, side: int | None = None, repeats: int = 5) -> float:
    """FLOP/s of all devices of a mesh together, each with its own square matrices.

    The fastest of the repeats counts.
    """
    platform = mesh.devices.flat[0].platform
    side = side or (1024 if platform == "cpu" else 8192)
    products = 4 if platform == "cpu" else 20  # in one call, to hide its overhead
    each = NamedSharding(mesh, P(mesh.axis_names))

    def chain(x_NSS: jax.Array) -> jax.Array:
        def product(_: Any, y_NSS: jax.Array) -> jax.Array:
            return jnp.einsum("nab,nbc->nac", y_NSS, x_NSS) * (1 / side)

        return jax.lax.fori_loop(0, products, product, x_NSS)

    draw = jax.jit(
        lambda: jax.random.normal(jax.random.key(0), (mesh.size, side, side), jnp.dtype(dtype)),
        out_shardings=each,
    )
    x_NSS = draw()
    run = jax.jit(chain, in_shardings=each, out_shardings=each)
    fastest = min(timed(lambda: run(x_NSS), steps=repeats, warmup=1))
    return mesh.size * products * 2.0 * side**3 / fastest


def peak_memory(compiled: jax.stages.Compiled) -> tuple[float, str]:
    """(bytes of a device, the source of the number)."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"]), "measured"
    planned: Any = compiled.memory_analysis()
    total = planned.argument_size_in_bytes + planned.temp_size_in_bytes
    total += planned.output_size_in_bytes - planned.alias_size_in_bytes
    return float(total), "XLA's plan of the step"


def timed(step: Callable[[], Any], *, steps: int, warmup: int) -> list[float]:
    """Seconds of each step until its results are ready."""
    return in_turns({"": step}, steps=steps, warmup=warmup)[""]


def in_turns(
    functions: Mapping[str, Callable[[], Any]], *, steps: int, warmup: int
) -> dict[str, list[float]]:
    """`timed` for several functions: a step of each, then the next step of each.

    The first step of each turn is not timed: a machine may take back memory that lies idle during
    the turns of the others.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(warmup + steps):
        for name, step in functions.items():
            if len(functions) > 1:
                jax.block_until_ready(step())
            began = time.perf_counter()
            jax.block_until_ready(step())
            if index >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds
