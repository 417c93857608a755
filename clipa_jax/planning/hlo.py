"""Reading what XLA compiled: products, bytes between chips, and how often a loop runs.

XLA's own cost analysis counts the body of a loop once, however often it runs, so a model
whose layers are scanned looks a layer deep. Here the text of the compiled module is read
and every computation counts as often as it is called. Shapes in it are those of one chip.
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
    inside: str  # the parentheses, where constants have their value
    attributes: str


@dataclass
class Computation:
    """Instructions by name, and the last one."""

    instructions: dict[str, Instruction] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """What one chip does in one run of the module.

    Attributes:
      flops: of matrix products and convolutions.
      collectives: bytes that the chip receives, by kind of collective.
      cycles: the compiler's own estimates, summed; 0 where it writes none.
    """

    flops: float
    collectives: dict[str, float]
    cycles: float


class _Run(NamedTuple):
    """A computation in its place: how often it runs, and the opcode and name that it runs for."""

    name: str
    times: float
    caller: str


def count(text: str) -> Counts:
    """Counts of a compiled module, from `compiled.as_text()`."""
    module, entry = parse(text)
    flops = cycles = 0.0
    # One collective may be spread over several computations, which progress it while they do
    # something else: it is one channel, and runs as often as its rarest part.
    channels: dict[str, tuple[str, float]] = {}
    for run in _runs(module, entry):
        computation = module[run.name]
        for instruction in computation.instructions.values():
            flops += run.times * _flops(instruction, computation)
            if run.caller != "fusion":  # whose cycles are written on the fusion
                cycles += run.times * _cycles(instruction)
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                kind, received = _received(kind, instruction, computation, run)
                found = re.search(r"channel_id=(\d+)", instruction.attributes)
                channel = found.group(1) if found else f"{run.name}/{instruction.name}"
                received = min(run.times * received, channels.get(channel, ("", math.inf))[1])
                channels[channel] = kind, received
    collectives: dict[str, float] = {}
    for kind, received in channels.values():
        collectives[kind] = collectives.get(kind, 0.0) + received
    return Counts(flops, collectives, cycles)


def _runs(module: dict[str, Computation], entry: str) -> Iterator[_Run]:
    """Every computation of the module as often as something calls it."""

    @functools.cache
    def flops(name: str) -> float:
        return sum(
            run.times * _flops(instruction, module[run.name])
            for run in below(_Run(name, 1, ""))
            for instruction in module[run.name].instructions.values()
        )

    def below(run: _Run) -> Iterator[_Run]:
        yield run
        computation = module[run.name]
        for instruction in computation.instructions.values():
            if instruction.opcode.endswith(("-done", "-update")):
                continue  # what they wait for was counted at its start
            times = run.times
            if instruction.opcode == "while":
                times *= trips(instruction, computation, module)
            for called in _CALLED.findall(instruction.attributes):
                yield from below(_Run(called, times, instruction.opcode))
            groups = _BRANCHES.findall(instruction.attributes)
            names = [n.lstrip("%") for group in groups for n in group.split(",") if n]
            if names:  # one of them runs; the dearest counts
                yield from below(_Run(max(names, key=flops), times, instruction.opcode))

    yield from below(_Run(entry, 1, ""))


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """(computations by name, the entry's name)."""
    module: dict[str, Computation] = {}
    entry, here = "", None
    for line in text.splitlines():
        if line.endswith("{") and (head := _HEAD.match(line)):
            here = module[head.group(1)] = Computation()
            entry = head.group(1) if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            here = None
        elif here is not None and (found := _NAME.match(line)):
            made = _instruction(found.group(1), line[found.end() :])
            here.instructions[made.name] = made
    return module, entry


def _instruction(name: str, rest: str) -> Instruction:
    shape, rest = _to_close(rest) if rest.startswith("(") else _split(rest, " ")
    opcode, rest = _split(rest.strip(), "(")
    inside, attributes = _to_close("(" + rest)
    inside = inside[1:-1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, shape, opcode, operands, inside, attributes)


def _split(text: str, mark: str) -> tuple[str, str]:
    before, _, after = text.partition(mark)
    return before, after


def _to_close(text: str) -> tuple[str, str]:
    """Splits after the parenthesis that closes the first character."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[: index + 1], text[index + 1 :]
    return text, ""


def trips(loop: Instruction, caller: Computation, module: dict[str, Computation]) -> int:
    """How often a `while` runs its body: its counter goes from a constant up to a constant."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known.group(1))
    named = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    condition = module[named.group(1)].instructions if named else {}
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


def _step(loop: Instruction, index: int, module: dict[str, Computation]) -> int:
    """By how much a turn of the loop raises its counter; XLA takes two turns at once in some."""
    named = re.search(r"body=%?([\w.\-]+)", loop.attributes)
    if named is None:
        return 1
    body = module[named.group(1)]
    root = list(body.instructions.values())[-1]
    if root.opcode != "tuple":
        return 1
    added = body.instructions.get(root.operands[index])
    if added is None or added.opcode != "add":
        return 1
    steps = [_constant(body, name) for name in added.operands]
    return max((step for step in steps if step), default=1)


def _constant(computation: Computation, name: str, index: int | None = None) -> int | None:
    """The constant of a name, or at an index of the tuple of that name; None if it is none."""
    made = computation.instructions.get(name)
    while made is not None and made.opcode in ("tuple", "copy", "bitcast"):
        at = index if made.opcode == "tuple" and index is not None else 0
        made = computation.instructions.get(made.operands[at])
    if made is None or made.opcode != "constant" or not made.inside.lstrip("-").isdigit():
        return None
    return int(made.inside)


def _cycles(instruction: Instruction) -> float:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return float(found.group(1)) if found else 0.0


def _flops(instruction: Instruction, computation: Computation) -> float:
    if instruction.opcode == "dot":
        return _dot(instruction, computation)
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    return 0.0


def _dims(shape: str) -> list[int]:
    found = _SHAPE.search(shape)
    return [int(d) for d in found.group(2).split(",") if d] if found else []


def size(shape: str) -> float:
    """Bytes of a shape, or of all shapes of a tuple."""
    return float(
        sum(
            BYTES.get(dtype, 0) * math.prod(int(d) for d in dims.split(",") if d)
            for dtype, dims in _SHAPE.findall(shape)
        )
    )


def _operand_shape(instruction: Instruction, computation: Computation, index: int) -> str:
    return computation.instructions[instruction.operands[index]].shape


def _dot(instruction: Instruction, computation: Computation) -> float:
    lhs = _dims(_operand_shape(instruction, computation, 0))
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    contracted = [lhs[int(d)] for d in found.group(1).split(",") if d] if found else []
    return 2.0 * math.prod(_dims(instruction.shape)) * math.prod(contracted)


def _convolution(instruction: Instruction, computation: Computation) -> float:
    """A convolution; also what the TPU compiler makes of a matrix product.

    A batch axis of a product becomes an axis of the window whose padding and dilation
    leave one number to multiply at each place, so only places inside of the input count.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels, instruction.attributes
    lhs_labels, rhs_labels, out_labels = labels.groups()
    lhs = _dims(_operand_shape(instruction, computation, 0))
    rhs = _dims(_operand_shape(instruction, computation, 1))
    out = _dims(instruction.shape)
    window = _window(instruction.attributes)
    places = 1.0
    for axis in range(len(window.get("size", []))):
        label = str(axis)
        places *= _valid_places(
            lhs[lhs_labels.index(label)],
            out[out_labels.index(label)],
            **{key: values[axis] for key, values in window.items()},
        )
    features = rhs[rhs_labels.index("i")]
    batch = out[out_labels.index("b")]
    return 2.0 * places * batch * out[out_labels.index("f")] * features


def _window(attributes: str) -> dict[str, list]:
    """`{size=4x2 pad=0_0x1_1}` -> {"size": [4, 2], "pad": [(0, 0), (1, 1)]}."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(item.split("=") for item in found.group(1).split()) if found else {}
    return {
        key: [
            tuple(int(n) for n in part.split("_")) if key == "pad" else int(part)
            for part in value.split("x")
        ]
        for key, value in fields.items()
        if key in ("size", "stride", "pad", "lhs_dilate", "rhs_dilate")
    }


@functools.cache
def _valid_places(
    length: int,
    outputs: int,
    size: int,
    stride: int = 1,
    pad: tuple[int, int] = (0, 0),
    lhs_dilate: int = 1,
    rhs_dilate: int = 1,
) -> int:
    """Pairs of a place in the window and one in the output that meet a number of the input."""
    dilated = (length - 1) * lhs_dilate + 1
    valid = 0
    for place in range(size):
        first = place * rhs_dilate - pad[0]
        for output in range(outputs):
            at = first + output * stride
            valid += 0 <= at < dilated and at % lhs_dilate == 0
    return valid


def _received(
    kind: str, instruction: Instruction, computation: Computation, run: _Run
) -> tuple[str, float]:
    """(kind, bytes that each chip of the group receives by the best known algorithm)."""
    sent = sum(
        size(computation.instructions[name].shape)
        for name in instruction.operands
        if name in computation.instructions
    )
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
    """Chips in a replica group, in any of the three ways that it is written."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", found.group(2)))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes):
        return int(found.group(2))
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(found.group(1).split(","))
    return 1
