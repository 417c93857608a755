"""Collectives and cycle estimates, read from the text of a compiled module.

XLA's own cost analysis counts the body of a loop once, so a model with scanned layers appears
one layer deep. This module reads the text and counts every computation as often as it is
called. Shapes in the text are those of one chip.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "s16": 2, "u16": 2, "f16": 2,
    "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8,
}  # fmt: skip

_NAME = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = ")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|async_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|true_computation|false_computation)=\{?([^}\s]+)")
COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip


class Instruction(NamedTuple):
    """One line: `%name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    inside: str  # the text in the parentheses: the value of a constant
    attributes: str


Computation = dict[str, Instruction]  # by name, in the order of the text
Module = dict[str, Computation]


class Kernel(NamedTuple):
    """A Pallas kernel, for which the compiler has no estimate."""

    name: str
    rows: int  # first axis of its first result
    bytes: float  # of its arrays


@dataclass(frozen=True)
class Counts:
    """One run of the module on one chip."""

    collectives: dict[str, float]  # bytes that the chip receives, by kind of collective
    cycles: float  # sum of the compiler's own estimates; 0 where it writes none
    kernels: dict[Kernel, float] = field(default_factory=dict)  # number of runs of each


class Run(NamedTuple):
    """A computation, how often it runs, and the opcode of its caller."""

    name: str
    times: float
    caller: str


def count(text: str) -> Counts:
    """Counts of a compiled module, from `compiled.as_text()`."""
    module, entry = parse(text)
    cycles = 0.0
    # A collective may be spread over several computations, which progress it beside other work.
    # They share one channel, which runs as often as its rarest part.
    channels: dict[str, tuple[str, float]] = {}
    kernels: dict[Kernel, float] = {}
    for run in runs(module, entry):
        cycles += run.times * _cycles(module, run)
        for instruction in module[run.name].values():
            if 'custom_call_target="tpu_custom_call"' in instruction.attributes:
                kernel = _kernel(instruction, module[run.name])
                kernels[kernel] = kernels.get(kernel, 0.0) + run.times
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                kind, received = _received(kind, instruction, module[run.name], run)
                match = re.search(r"channel_id=(\d+)", instruction.attributes)
                channel = match.group(1) if match else f"{run.name}/{instruction.name}"
                received = min(run.times * received, channels.get(channel, ("", math.inf))[1])
                channels[channel] = kind, received
    collectives: dict[str, float] = {}
    for kind, received in channels.values():
        collectives[kind] = collectives.get(kind, 0.0) + received
    return Counts(collectives, cycles, kernels)


def runs(module: Module, entry: str) -> Iterator[Run]:
    """Every computation of the module, once for each call."""

    @functools.cache
    def cycles(name: str) -> float:
        return sum(run.times * _cycles(module, run) for run in below(Run(name, 1, "")))

    def below(run: Run) -> Iterator[Run]:
        yield run
        computation = module[run.name]
        for instruction in computation.values():
            if instruction.opcode.endswith(("-done", "-update")):
                continue  # its start has been counted
            times = run.times
            if instruction.opcode == "while":
                times *= trips(instruction, computation, module)
            for name in called(instruction):
                yield from below(Run(name, times, instruction.opcode))
            groups = _BRANCHES.findall(instruction.attributes)
            names = [n.lstrip("%") for group in groups for n in group.split(",") if n]
            if names:  # one of them runs; the most expensive one counts
                yield from below(Run(max(names, key=cycles), times, instruction.opcode))

    yield from below(Run(entry, 1, ""))


def called(instruction: Instruction) -> list[str]:
    """Names of the computations that an instruction always runs."""
    return _CALLED.findall(instruction.attributes)


def parse(text: str) -> tuple[Module, str]:
    """(computations by name, the entry's name)."""
    module: Module = {}
    entry, computation = "", None
    for line in text.splitlines():
        if line.endswith("{") and (head := _HEAD.match(line)):
            computation = module[head.group(1)] = {}
            entry = head.group(1) if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            computation = None
        elif computation is not None and (match := _NAME.match(line)):
            instruction = _instruction(match.group(1), line[match.end() :])
            computation[instruction.name] = instruction
    return module, entry


def _instruction(name: str, rest: str) -> Instruction:
    if rest.startswith("("):
        shape, rest = _split_after_parenthesis(rest)
    else:
        shape, _, rest = rest.partition(" ")
    opcode, _, rest = rest.strip().partition("(")
    inside, attributes = _split_after_parenthesis("(" + rest)
    inside = inside[1:-1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, shape, opcode, operands, inside, attributes)


def _split_after_parenthesis(text: str) -> tuple[str, str]:
    """Splits after the parenthesis that closes the first character."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: index + 1], text[index + 1 :]
    return text, ""


def trips(loop: Instruction, caller: Computation, module: Module) -> int:
    """Iterations of a `while` whose counter runs from a constant up to a constant."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known.group(1))
    named = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    condition = module[named.group(1)] if named else {}
    for test in condition.values():
        if test.opcode != "compare" or "direction=LT" not in test.attributes:
            continue
        counter, limit = (condition[name] for name in test.operands)
        index = re.search(r"index=(\d+)", counter.attributes)
        if limit.opcode == "constant" and index:
            start = _constant(caller, loop.operands[0], int(index.group(1))) or 0
            step = _step(loop, int(index.group(1)), module)
            return max(-(-(int(limit.inside) - start) // step), 0)
    return 1


def _step(loop: Instruction, index: int, module: Module) -> int:
    """Increment of a loop's counter in one iteration; XLA unrolls some loops by two."""
    named = re.search(r"body=%?([\w.\-]+)", loop.attributes)
    if named is None:
        return 1
    body = module[named.group(1)]
    root = list(body.values())[-1]
    if root.opcode != "tuple":
        return 1
    added = body.get(root.operands[index])
    if added is None or added.opcode != "add":
        return 1
    steps = [_constant(body, name) for name in added.operands]
    return max((step for step in steps if step), default=1)


def _constant(computation: Computation, name: str, index: int | None = None) -> int | None:
    """The integer constant of a name, or of an element of a tuple; None if it is none."""
    instruction = computation.get(name)
    while instruction is not None and instruction.opcode in ("tuple", "copy", "bitcast"):
        at = index if instruction.opcode == "tuple" and index is not None else 0
        instruction = computation.get(instruction.operands[at])
    if instruction is None or instruction.opcode != "constant":
        return None
    return int(instruction.inside) if instruction.inside.lstrip("-").isdigit() else None


def _cycles(module: Module, run: Run) -> float:
    """Estimated cycles of one run of a computation, without those that it calls."""
    if run.caller == "fusion":
        return 0.0  # written on the fusion
    matches = (
        re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
        for instruction in module[run.name].values()
    )
    return sum(float(match.group(1)) for match in matches if match)


def _kernel(instruction: Instruction, computation: Computation) -> Kernel:
    name = re.sub(r"(\.(\d+|clone|remat\d*))+$", "", instruction.name)
    shapes = [computation[name].shape for name in instruction.operands if name in computation]
    match = _SHAPE.search(instruction.shape)
    rows = int(match.group(2).split(",")[0] or 1) if match else 1
    return Kernel(name, rows, size(instruction.shape) + sum(map(size, shapes)))


def size(shape: str) -> float:
    """Bytes of a shape, or of all shapes of a tuple."""
    return float(
        sum(
            BYTES.get(dtype, 0) * math.prod(int(d) for d in dims.split(",") if d)
            for dtype, dims in _SHAPE.findall(shape)
        )
    )


def _received(
    kind: str, instruction: Instruction, computation: Computation, run: Run
) -> tuple[str, float]:
    """(kind, bytes that each chip of the group receives by the best known algorithm)."""
    operands = (computation[name] for name in instruction.operands if name in computation)
    sent = sum(size(operand.shape) for operand in operands)
    group = _group_size(instruction.attributes)
    others = (group - 1) / group
    if kind == "all-reduce" and run.caller == "fusion" and "scatter" in run.name:
        # The TPU compiler's reduce-scatter: an all-reduce of which each chip keeps its part.
        kind = "reduce-scatter"
    factor = {
        "all-gather": group - 1,
        "all-reduce": 2 * others,
        "reduce-scatter": others,
        "all-to-all": others,
        "ragged-all-to-all": others,
    }
    return kind, sent * factor.get(kind, 1.0)


def _group_size(attributes: str) -> int:
    """Chips in a replica group, in any of the three notations."""
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match.group(2)))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes):
        return int(match.group(2))
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(match.group(1).split(","))
    return 1
