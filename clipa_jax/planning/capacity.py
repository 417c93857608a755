"""Whether a stage fits the memory of the devices at hand, before anything is allocated."""

import os

import jax
from absl import logging
from ml_collections import ConfigDict

from clipa_jax import sharding
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.planning import analytic, workload
from clipa_jax.runtime.format import memory
from clipa_jax.training.program import Program

ROOM = 0.7  # share of the memory that an estimate may take for `remat=auto`
CERTAIN = 2.0  # an estimate above this multiple of the memory is an error, above 1 a warning


def settle(config: ConfigDict, num_chips: int, limit: float | None) -> ConfigDict:
    """The stage's config with `remat=auto` replaced by what recomputes least within the memory.

    `limit` is in bytes of a chip; with None everything is recomputed.
    """
    names = [name for name in ("image", "text") if config.model[name].remat == "auto"]
    if not names:
        return config
    config = config.copy_and_resolve_references()
    for remat in analytic.REMAT:
        for name in names:
            config.model[name].remat = remat
        # The memory does not depend on the length of an epoch, which is not known yet.
        work = workload.read(config, num_examples=2**40)
        if limit is not None and analytic.memory(work, num_chips).total <= ROOM * limit:
            break
    logging.info("%s: remat=auto is %s in the tower(s) %s", config.name, remat, ", ".join(names))
    return config


def settle_here(config: ConfigDict) -> ConfigDict:
    """`settle` for the devices of this run."""
    mesh = Settings(config.mesh).call(sharding.make_mesh)
    return settle(config, mesh.size, device_memory(mesh.local_devices[0]))


def check(name: str, config: ConfigDict, built: Program) -> tuple[float, float | None]:
    """(bytes that a stage is expected to need on a device, bytes that a device has).

    Raises:
      ConfigError: the state alone does not fit, or half of what is needed.
    """
    limit = device_memory(built.mesh.local_devices[0])
    state = built.spec.bytes_per_device()
    estimate = analytic.memory(workload.of_program(name, config, built), built.mesh.size)
    needed = estimate.total - estimate.state + state
    if limit is None or needed <= limit:
        return needed, limit
    sentence = (
        f"stage {name} needs about {memory(needed)} on each of {built.mesh.size} devices, which "
        f"have {memory(limit)}: {memory(state)} for parameters and optimizer, the rest for "
        f"activations of {samples_held(config):,} samples; set a smaller microbatch or "
        "input.batch_size, sharding.preset=fsdp, or remat=full in both towers"
    )
    if state > limit or needed > CERTAIN * limit:
        raise ConfigError(sentence)
    logging.warning("%s", sentence)
    return needed, limit


def samples_held(config: ConfigDict) -> int:
    """Samples whose activations are held at once."""
    return min(config.microbatch or config.input.batch_size, config.input.batch_size)


def device_memory(device: jax.Device) -> float | None:
    """Bytes of a device; a CPU's devices share the machine's memory; None if it is unknown."""
    if device.platform == "cpu":
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total / jax.local_device_count()
    return (device.memory_stats() or {}).get("bytes_limit")
