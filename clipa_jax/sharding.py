"""The device mesh, and the layout of parameters over it.

Axes: `replica` copies the parameters, `fsdp` may split them, `tensor` splits single
layers. The batch is split over `replica` and `fsdp` together. A preset gives every
parameter a layout; regex rules override it leaf by leaf, first match counts.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import trees
from clipa_jax.config.settings import Settings, choice
from clipa_jax.errors import ConfigError, unknown

AXES = ("replica", "fsdp", "tensor")
BATCH = P(("replica", "fsdp"))
Rules = Sequence[tuple[str, tuple[Any, ...]]]

# Layout of the large matrices when layers are split over `tensor`: attention by head and
# MLP by hidden unit, so that each layer needs one sum over the axis on its way out.
TENSOR_RULES: Rules = (
    (r".*/(query|key|value)/kernel", ("fsdp", "tensor", None)),
    (r".*/(query|key|value)/bias", ("tensor", None)),
    (r".*/out/kernel", ("tensor", None, "fsdp")),
    (r".*/Dense_0/kernel", ("fsdp", "tensor")),
    (r".*/Dense_0/bias", ("tensor",)),
    (r".*/Dense_1/kernel", ("tensor", "fsdp")),
    (r".*/Embed_0/embedding", ("tensor", "fsdp")),
)


def make_mesh(replica: int = 1, fsdp: int = -1, tensor: int = 1, *, devices: Any = None) -> Mesh:
    """A mesh over all devices, or the given ones; one axis may be -1 and takes those that remain.

    Raises `ConfigError` if the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = {"replica": replica, "fsdp": fsdp, "tensor": tensor}
    free = [axis for axis, size in shape.items() if size == -1]
    fixed = int(np.prod([size for size in shape.values() if size != -1]))
    if len(free) > 1 or fixed < 1 or len(devices) % fixed or (not free and fixed != len(devices)):
        raise ConfigError(
            f"mesh {shape} does not fit {len(devices)} devices; the axes must multiply to "
            f"{len(devices)}, and one of them may be -1"
        )
    if free:
        shape[free[0]] = len(devices) // fixed
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(shape[axis] for axis in AXES), AXES, auto, devices=devices)


def data_parallel(mesh: Mesh | AbstractMesh) -> int:
    """The number of devices over which the batch is split."""
    return mesh.shape["replica"] * mesh.shape["fsdp"]


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The layout of a global batch: its first axis over all data-parallel devices."""
    return NamedSharding(mesh, BATCH)


def on(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, traced so that `split_batch` inside it knows the mesh."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def split_batch(x: jax.Array, rows: int = 1) -> jax.Array:
    """Keeps an activation (B * rows, ...) split along its first axis, and whole along the others.

    Otherwise the compiler may split activations as the parameters are, and copy whole batches
    between devices. Does nothing outside of `on`, or if the batch does not divide.
    """
    spec = _batch_spec(x, rows)
    return jax.lax.with_sharding_constraint(x, spec) if spec else x


def on_each_device(
    function: Callable[[jax.Array, Any], jax.Array], x: jax.Array, whole: Any, rows: int = 1
) -> jax.Array:
    """Result of `function(x, whole)`, run by every device on its own part of the batch.

    For kernels, which XLA cannot split. The function keeps the batch axis of `x`, (B * rows, ...);
    every device holds the arrays in `whole`.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return function(x, whole)
    spec = _batch_spec(x, rows) or P()
    mapped = jax.shard_map(function, in_specs=(spec, P()), out_specs=spec, check_vma=False)
    return mapped(x, whole)


def _batch_spec(x: jax.Array, rows: int) -> P | None:
    """The layout of an activation; None where there is no mesh or the batch does not divide."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or x.shape[0] // rows % data_parallel(mesh):
        return None
    return BATCH


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, P())


def check_batch(batch_size: int, mesh: Mesh, processes: int = 1) -> None:
    """Raises `ConfigError` if the global batch does not divide over the mesh and the hosts."""
    parts = math.lcm(data_parallel(mesh), processes)
    if batch_size < 1 or batch_size % parts:
        nearest = max(round(batch_size / parts), 1) * parts
        raise ConfigError(
            f"batch {batch_size} is not divisible by {parts} data-parallel devices; "
            f"nearest: {nearest}"
        )


def _spec(axes: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(axis) if isinstance(axis, list) else axis for axis in axes)


def param_shardings(shapes: Any, mesh: Mesh, config: Settings) -> Any:
    """The sharding of every parameter, by the preset and the rules of the `sharding` section.

    A rule is a pair (regex, spec) whose spec names a mesh axis or None for each array axis. Raises
    `ConfigError` for an unknown preset, or a rule that matches nothing or does not fit.
    """
    preset = PRESETS[choice(config, "preset", PRESETS)]
    flat = trees.flatten(shapes)
    rules = trees.rules(config.rules, _spec, "sharding.rules")
    for pattern, spec in rules:
        _check_axes(pattern, spec)
    overrides = trees.match(rules, flat, None, what="sharding rule")

    def layout(name: str, leaf: Any) -> NamedSharding:
        spec = overrides[name]
        if spec is None:
            return NamedSharding(mesh, _fitting(preset(name, leaf.shape, mesh), leaf.shape, mesh))
        if _fitting(P(*spec), leaf.shape, mesh) != P(*spec):
            raise ConfigError(
                f"sharding rule {spec} does not divide {name} of shape {tuple(leaf.shape)} "
                f"over mesh {dict(mesh.shape)}"
            )
        return NamedSharding(mesh, P(*spec))

    return trees.map_with_names(layout, shapes)


def _dp(name: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """Every device holds all parameters."""
    del name, shape, mesh
    return P()


def _fsdp(name: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """Splits the longest divisible axis; vectors stay whole, since they are small."""
    del name
    parts = mesh.shape["fsdp"]
    axes = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if len(shape) < 2 or parts == 1 or not axes:
        return P()
    longest = max(axes, key=lambda axis: shape[axis])
    return P(*["fsdp" if axis == longest else None for axis in range(len(shape))])


def _fsdp_tp(name: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """Splits layers over `tensor` and further over `fsdp`."""
    spec = trees.first(TENSOR_RULES, name, None)
    if spec is None:
        return _fsdp(name, shape, mesh)
    # Stacked layers have one axis more, in front.
    return P(*([None] * (len(shape) - len(spec))), *spec)


PRESETS: dict[str, Callable[[str, tuple[int, ...], Mesh], P]] = {
    "dp": _dp,
    "fsdp": _fsdp,
    "fsdp_tp": _fsdp_tp,
}


def _check_axes(pattern: str, spec: tuple[Any, ...]) -> None:
    """Raises `ConfigError` unless the spec of a rule names axes of the mesh, each once."""
    names: list[str] = []
    for axis in spec:
        names += axis if isinstance(axis, tuple) else [axis] if axis is not None else []
    for name in names:
        if name not in AXES:
            raise ConfigError(unknown(f"axis in sharding rule {pattern!r}:", str(name), AXES))
        if names.count(name) > 1:
            raise ConfigError(f"sharding rule {pattern!r} names the axis {name} twice: {spec}")


def _fitting(spec: P, shape: tuple[int, ...], mesh: Mesh) -> P:
    """`spec` without the mesh axes that do not divide the array."""
    fits = []
    for size, axis in zip(shape, tuple(spec) + (None,) * (len(shape) - len(spec)), strict=False):
        names = axis if isinstance(axis, tuple) else (axis,) if axis else ()
        parts = int(np.prod([mesh.shape[name] for name in names]))
        fits.append(axis if size % parts == 0 else None)
    return P(*fits[: len(spec)])
