"""Matrix products and HBM traffic of every operation of a compiled TPU module."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clipa_jax.planning import hlo
from clipa_jax.planning.hlo import Computation, Instruction, Module

# `bf16[37,1280]{1,0:T(8,128)(2,1)S(1)}`: type, sizes, axes from the minor one on, tile and memory.
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_BATCH = re.compile(r"lhs_batch_dims=\{([\d,]+)\}")


class Operation(NamedTuple):
    """An operation with a cycle estimate: a fusion, or what stands alone."""

    times: float  # how often it runs in a step
    flops: float  # of its matrix products and convolutions, once
    bytes: float  # read from and written to HBM, tiles padded, once


def read(text: str) -> list[Operation]:
    """The operations of a module, from `compiled.as_text()`; kernels have no estimate."""
    module, entry = hlo.parse(text)
    return [
        Operation(
            run.times,
            _flops(instruction, module[run.name], module),
            _bytes(instruction, module[run.name], module),
        )
        for run in hlo.runs(module, entry)
        if run.caller != "fusion"
        for instruction in module[run.name].values()
        if "estimated_cycles" in instruction.attributes
    ]


def seconds(operations: Sequence[Operation], peak: float, bandwidth: float) -> float:
    """Each at the larger of its products at `peak` FLOP/s and its bytes at `bandwidth` bytes/s."""
    return sum(op.times * max(op.flops / peak, op.bytes / bandwidth) for op in operations)


def _flops(instruction: Instruction, computation: Computation, module: Module) -> float:
    if instruction.opcode == "fusion":
        fused = module[hlo.called(instruction)[0]]
        return sum(_flops(inner, fused, module) for inner in fused.values())
    if instruction.opcode not in ("convolution", "dot"):
        return 0.0
    lhs, rhs = (_dims(computation[name].shape) for name in instruction.operands[:2])
    out = _dims(instruction.shape)
    # An axis of a product is in two of its three arrays, a batch axis in all of them.
    batch = math.prod(_batch_axes(instruction.attributes, lhs, rhs, out))
    return 2 * math.sqrt(math.prod(lhs) * math.prod(rhs) * math.prod(out) / batch)


def _batch_axes(attributes: str, lhs: list[int], rhs: list[int], out: list[int]) -> Iterator[int]:
    """Sizes of the batch axes, which a convolution has as axes of its window."""
    if match := _LABELS.search(attributes):
        labels = match.groups()
        for axis in filter(str.isdigit, labels[0]):
            sizes = {
                array[label.index(axis)]
                for array, label in zip((lhs, rhs, out), labels, strict=True)
            }
            if len(sizes) == 1:
                yield from sizes
    elif match := _BATCH.search(attributes):
        yield from (lhs[int(axis)] for axis in match.group(1).split(","))


def _bytes(instruction: Instruction, computation: Computation, module: Module) -> float:
    """Bytes in HBM of operands and results; of a slice or an update in place, its own."""
    operands = [computation[name].shape for name in instruction.operands if name in computation]
    if instruction.opcode != "fusion":
        return _in_hbm(instruction.shape) + sum(map(_in_hbm, operands))
    fused, parameters = _fused(instruction, module)
    root = list(fused.values())[-1]
    results = root.operands if root.opcode == "tuple" else (root.name,)
    arrays = (match.group() for match in _ARRAY.finditer(instruction.shape))
    return sum(
        _read(shape, name, fused, module) for shape, name in zip(operands, parameters, strict=True)
    ) + sum(
        _written(array, name, fused, module) for array, name in zip(arrays, results, strict=False)
    )


def _fused(fusion: Instruction, module: Module) -> tuple[Computation, list[str]]:
    """The computation that a fusion calls, and the names of its parameters in order."""
    fused = module[hlo.called(fusion)[0]]
    parameters = (inner for inner in fused.values() if inner.opcode == "parameter")
    return fused, [inner.name for inner in sorted(parameters, key=lambda p: int(p.inside))]


def _read(array: str, name: str, fused: Computation, module: Module) -> float:
    """Bytes that the users of a value in a fusion read of an array in memory."""
    total = 0.0
    for use in fused.values():
        if name not in use.operands:
            continue
        if use.opcode == "bitcast":
            total += _read(array, use.name, fused, module)
        elif use.opcode == "fusion":
            inner, parameters = _fused(use, module)
            total += sum(
                _read(array, parameter, inner, module)
                for parameter, operand in zip(parameters, use.operands, strict=True)
                if operand == name
            )
        elif use.opcode == "dynamic-slice":
            total += _moved(array, use.shape)
        elif not _in_place(use, name):
            return _in_hbm(array)
    return min(total, _in_hbm(array))


def _in_place(use: Instruction, name: str) -> bool:
    """Whether a value is passed on, updated in place, or sent to other chips."""
    updated = use.opcode == "dynamic-update-slice" and use.operands[0] == name
    return updated or use.opcode == "tuple" or use.opcode in hlo.COLLECTIVES


def _written(array: str, name: str, fused: Computation, module: Module) -> float:
    """Bytes of an array in memory that a value of a fusion is written to."""
    value = fused[name]
    if value.opcode == "bitcast":
        return _written(array, value.operands[0], fused, module)
    if value.opcode == "fusion" and not value.shape.startswith("("):
        inner, _ = _fused(value, module)
        return _written(array, list(inner)[-1], inner, module)
    if value.opcode == "dynamic-update-slice":
        return _moved(array, fused[value.operands[1]].shape)
    if value.opcode == "parameter" or value.opcode in hlo.COLLECTIVES:
        return 0.0  # passed on, or received from other chips
    return _in_hbm(array)


def _moved(array: str, part: str) -> float:
    """Bytes of a part of an array, 0 if the array is not in HBM."""
    share = math.prod(_dims(part)) / max(math.prod(_dims(array)), 1)
    return _in_hbm(array) * share


def _dims(shape: str) -> list[int]:
    match = _ARRAY.search(shape)
    return [int(size) for size in match.group(2).split(",") if size] if match else []


def _in_hbm(shape: str) -> float:
    """Bytes of all arrays of a shape that lie in HBM, whose minor axes fill whole tiles."""
    total = 0.0
    for dtype, sizes, axes, layout in _ARRAY.findall(shape):
        if dtype not in hlo.BYTES or "S(" in layout:
            continue
        dims = [int(size) for size in sizes.split(",") if size]
        tile = re.match(r"T\(([\d,]+)\)", layout)
        order = [int(axis) for axis in axes.split(",") if axis]
        lengths = tile.group(1).split(",")[::-1] if tile else []
        for axis, length in zip(order, lengths, strict=False):
            dims[axis] = -(-dims[axis] // int(length)) * int(length)
        total += math.prod(dims) * hlo.BYTES[dtype]
    return total
