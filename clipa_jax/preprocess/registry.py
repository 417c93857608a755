"""Preprocessing as a string of named ops: `decode|inception_crop(84)|jitter(0.4)`.

An op is a factory: called with the literals of the string, it returns a function
from a sample (a dict of tensors) to a sample. Strings are parsed with `ast`
literals, never evaluated, and checked against the factories' signatures before any
data is read.

Random ops are pure functions of what they are given, so the same sample is treated the
same way in a resumed run, on any number of hosts. They take a keyword `seed`, an int64
pair that depends on (run seed, epoch, sample, position of the op), or a keyword `draws`,
as many uniform numbers as they were registered with, drawn from that seed.

An op registered with `batched=True` also takes a whole batch at once, every entry with a
leading axis. `phases` gathers such ops, where they cost least: TensorFlow needs a microsecond
or two for every small op, once a sample or once a batch.

n samples of a batch, D numbers drawn.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown

Sample = dict[str, Any]
Function = Callable[..., Sample]
Factory = Callable[..., Function]

SEED = "seed"  # the sample's entry that holds its int64 pair
_DRAWS = "_draws_{}_{}"  # numbers that wait for an op, by its position and name
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Choice:
    """A function of a sample that goes one of several ways, told by a number in the sample.

    TensorFlow goes through the ops of all ways for each sample. So where there are many, those of
    one way are taken after those of another, see `data.loops`.

    Attributes:
      number: the entry, int32 (), that tells the way; from the last one's place on, it is that.
      ways: functions from a sample to what takes the place of its entry `result`.
      entries: what they need besides `result`; nobody needs it afterwards.
      result: the entry that they replace.
      spec: of what they give.
    """

    number: str
    ways: Sequence[Callable[[Sample], tf.Tensor]]
    entries: tuple[str, ...]
    result: str
    spec: tf.TensorSpec

    def __call__(self, sample: Sample) -> Sample:
        ways = [functools.partial(way, sample) for way in self.ways]
        return self.finished(sample, tf.switch_case(sample[self.number], ways))

    def finished(self, sample: Sample, result: tf.Tensor) -> Sample:
        """The sample, or the batch, with the result and without what led to it."""
        used = {self.number, *self.entries}
        rest = {name: value for name, value in sample.items() if name not in used}
        return {**rest, self.result: result}


@dataclass(frozen=True)
class Op:
    """A registered op.

    Attributes:
      factory: literals of the string -> function from a sample to a sample.
      draws: how many uniform numbers the function takes as its keyword `draws`.
      entry: the entry of the sample that the op works on, if only one; "text" stands for
        captions and tokens. Ops on different entries may change places.
      batched: the function also takes batches, all entries with a leading axis.
      fuses: names of neighbouring ops that this op stands for; it is called with the
        arguments of the last one, and the others must have none.
      before: names of ops that come right before this one when it stands for others, called
        with the same arguments; they share its place in the string.
    """

    factory: Factory
    draws: int = 0
    entry: str = ""
    batched: bool = False
    fuses: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


OPS: dict[str, Op] = {}


def op(
    name: str, **properties: Any
) -> Callable[[Callable[..., Function]], Callable[..., Function]]:
    """Registers a factory under `name`, with the properties of an `Op`."""

    def register(factory: Factory) -> Factory:
        if name in OPS:
            raise ValueError(f"op {name!r} is registered twice")
        OPS[name] = Op(factory, **properties)
        return factory

    return register


@dataclass(frozen=True)
class Call:
    """One op of a preprocessing string with its literal arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(spec: str) -> list[Call]:
    """Splits a preprocessing string into calls, checked against the registered ops.

    Raises:
      ConfigError: an unknown op, arguments that are not literals or that do not fit.
    """
    calls = [_parse_op(part.strip(), spec) for part in _split(spec)]
    for call in calls:
        if call.name not in OPS:
            raise ConfigError(unknown("preprocessing op", call.name, OPS) + f" (in {spec!r})")
        signature = inspect.signature(OPS[call.name].factory)
        try:
            signature.bind(*call.args, **call.kwargs)
        except TypeError as error:
            raise ConfigError(
                f"preprocessing op {call.name}{signature} in {spec!r}: {error}"
            ) from None
    return calls


def build(spec: str, *, fuse: bool = True) -> Function:
    """The function that applies the ops of a preprocessing string to one sample.

    A sample that goes through random ops needs an entry `seed`, an int64 pair; the
    entry is dropped at the end.

    Args:
      spec: the string.
      fuse: let one op stand for neighbours where there is one that does; the result is
        nearly the same, the same numbers are drawn.
    """
    steps = _steps(spec, fuse)

    def apply(sample: Sample) -> Sample:
        sample = dict(sample)
        seed = sample.pop(SEED, None)
        for step in steps:
            sample = step.apply(sample, seed)
        return sample

    return apply


@dataclass(frozen=True)
class Phase:
    """Neighbouring ops that are applied together.

    Attributes:
      ops: their names and arguments, as in a preprocessing string.
      entries: what they work on, see `Op`.
      batched: whether `function` takes a batch of n samples; else one sample.
      function: of the sample or the batch; takes out the entry of drawn numbers that it uses. A
        `Choice` stands alone.
    """

    ops: tuple[str, ...]
    entries: frozenset[str]
    batched: bool
    function: Function


def phases(spec: str) -> tuple[Callable[[tf.Tensor], Sample], list[Phase]]:
    """`build` in parts, some of which work on a whole batch.

    Returns:
      A function of the samples' seeds, int64 (n, 2), to entries that have to be in the batch
      before the first phase; and the phases in order. Ops that take batches and stand before
      others go later, if those work on other entries.
    """
    steps = _steps(spec, fuse=True)

    def draw(seed_n2: tf.Tensor) -> Sample:
        entries = {step.entry: step.draw(seed_n2) for step in steps if step.op.draws}
        own = {step.entry: step.own(seed_n2) for step in steps if step.keyword == SEED}
        return {**entries, **own}

    return draw, [_phase(steps) for run in _runs(steps) for steps in _choices_alone(run)]


def _runs(steps: list["_Step"]) -> list[list["_Step"]]:
    """Steps in as few runs as can be, batched or not: batched ones late, others early."""
    last: list[_Step] = []
    first: list[_Step] = []
    later: set[str] = set()  # entries of ops that have to go first and stand further right
    for step in reversed(steps):
        if step.op.batched and step.op.entry not in later:
            last.insert(0, step)
        else:
            first.insert(0, step)
            later.add(step.op.entry)
    runs: list[list[_Step]] = []
    for step in first:
        found = len(runs)
        for place in reversed(range(len(runs))):
            if runs[place][0].op.batched == step.op.batched:
                found = place
            if {other.op.entry for other in runs[place]} & {step.op.entry, ""} or not step.op.entry:
                break
        if found == len(runs):
            runs.append([])
        runs[found].append(step)
    if last and runs and runs[-1][0].op.batched:
        runs[-1] += last
    elif last:
        runs.append(last)
    return runs


def _choices_alone(run: list["_Step"]) -> list[list["_Step"]]:
    found: list[list[_Step]] = []
    for step in run:
        if not found or any(isinstance(s.function, Choice) for s in (step, found[-1][0])):
            found.append([])
        found[-1].append(step)
    return found


def _phase(steps: list["_Step"]) -> Phase:
    def apply(sample: Sample) -> Sample:
        sample = dict(sample)
        for step in steps:
            word = step.keyword
            numbers = {word: sample.pop(step.entry)} if word else {}
            sample = step.function(sample, **numbers)
        return sample

    ops = tuple(step.text for step in steps)
    entries = frozenset(step.op.entry for step in steps)
    function = steps[0].function if isinstance(steps[0].function, Choice) else apply
    return Phase(ops, entries, steps[0].op.batched, function)


@dataclass(frozen=True)
class _Step:
    """A call that is ready to run.

    Attributes:
      text: as it would stand in a preprocessing string.
      function: of a sample.
      index: its position in the string.
      entry: where its numbers wait in a sample.
      keyword: of the function, for its numbers; "" if it takes none.
    """

    op: Op
    text: str
    function: Function
    index: int
    entry: str
    keyword: str

    @classmethod
    def of(cls, name: str, call: Call, index: int) -> "_Step":
        operation = OPS[name]
        function = operation.factory(*call.args, **call.kwargs)
        words = (f"{key}={value!r}" for key, value in call.kwargs.items())
        text = f"{name}({', '.join([*map(repr, call.args), *words])})"
        seeded = SEED in inspect.signature(function).parameters
        keyword = "draws" if operation.draws else SEED if seeded else ""
        return cls(operation, text, function, index, _DRAWS.format(index, name), keyword)

    def draw(self, seed_n2: tf.Tensor) -> tf.Tensor:
        """Uniform numbers in [0, 1), float32 (n, D)."""
        return _uniform(self.own(seed_n2), self.op.draws)

    def own(self, seed_n2: tf.Tensor) -> tf.Tensor:
        return seed_n2 + tf.constant([0, self.index << 48], tf.int64)

    def apply(self, sample: Sample, seed: tf.Tensor | None) -> Sample:
        if not self.keyword:
            return self.function(sample)
        if seed is None:
            raise ValueError("a random preprocessing op needs an entry `seed` in the sample")
        numbers = self.draw(seed[None])[0] if self.op.draws else self.own(seed)
        return self.function(sample, **{self.keyword: numbers})


def _uniform(seed_n2: tf.Tensor, count: int) -> tf.Tensor:
    """Numbers in [0, 1), float32 (n, count): the SplitMix64 generator, begun at each seed.

    In a few ops for all samples, where TensorFlow's own take one seed at a time.
    """
    seed_n2 = tf.bitcast(seed_n2, tf.uint64)
    state_n = _mix(_mix(seed_n2[:, 0] + _GOLDEN) + seed_n2[:, 1] + _GOLDEN)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    bits_nD = tf.bitwise.right_shift(_mix(state_n[:, None] + steps), tf.constant(40, tf.uint64))
    return tf.cast(bits_nD, tf.float32) * 2.0**-24


def _mix(x: tf.Tensor) -> tf.Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64))
        x = tf.bitwise.bitwise_xor(x, shifted) * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))


def _steps(spec: str, fuse: bool) -> list[_Step]:
    calls = list(enumerate(parse(spec)))
    for name, operation in OPS.items() if fuse else ():
        calls = _fuse(calls, name, operation.fuses)
    return [
        _Step.of(name, call, index)
        for index, call in calls
        for name in (*OPS[call.name].before, call.name)
    ]


def _fuse(calls: list[tuple[int, Call]], name: str, parts: tuple[str, ...]):
    """Replaces neighbours called `parts` by one call of `name`, at the last one's position."""
    size = len(parts)
    for start in range(len(calls) - size + 1) if size else ():
        found = [call for _, call in calls[start : start + size]]
        plain = not any(call.args or call.kwargs for call in found[:-1])
        if plain and tuple(call.name for call in found) == parts:
            index, last = calls[start + size - 1]
            fused = (index, Call(name, last.args, last.kwargs))
            return [*calls[:start], fused, *_fuse(calls[start + size :], name, parts)]
    return calls


def _split(spec: str) -> list[str]:
    """Splits at the bars that stand outside quotes and brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for index, char in enumerate(spec):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "|" and depth == 0:
            parts.append(spec[start:index])
            start = index + 1
    return [*parts, spec[start:]]


def _parse_op(text: str, spec: str) -> Call:
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return Call(node.id, (), {})
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = tuple(ast.literal_eval(arg) for arg in node.args)
            kwargs = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            return Call(node.func.id, args, kwargs)
    except (SyntaxError, ValueError):
        pass
    raise ConfigError(
        f"preprocessing op {text!r} in {spec!r} is not of the form name or name(literals)"
    )
