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
leading axis; `split` gathers such ops at the end of the string, where they cost least.
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown

Sample = dict[str, Any]
Function = Callable[..., Sample]
Factory = Callable[..., Function]

SEED = "seed"  # the sample's entry that holds its int64 pair
_DRAWS = "_draws_{}"  # numbers that wait for a batched op, by its position


@dataclass(frozen=True)
class Op:
    """A registered op.

    Attributes:
      factory: literals of the string -> function from a sample to a sample.
      draws: how many uniform numbers the function takes as its keyword `draws`.
      entry: the entry of the sample that the op reads and writes, if only one.
      batched: the function also takes batches, all entries with a leading axis.
      fuses: names of neighbouring ops that this op stands for; it is called with the
        arguments of the last one, and the others must have none.
    """

    factory: Factory
    draws: int = 0
    entry: str = ""
    batched: bool = False
    fuses: tuple[str, ...] = ()


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


def split(spec: str) -> tuple[Function, Function]:
    """`build` in two parts: a function of one sample, then one of a batch of its results.

    The second part has the ops at the end of the string that take batches. Other ops
    that stand behind them in the string go first, if they work on other entries.
    """
    first: list[_Step] = []
    last: list[_Step] = []
    later: set[str] = set()  # entries of ops that have to go first and stand further right
    for step in reversed(_steps(spec, fuse=True)):
        if step.op.batched and step.op.entry not in later:
            last.insert(0, step)
        else:
            first.insert(0, step)
            later.add(step.op.entry)

    def one(sample: Sample) -> Sample:
        sample = dict(sample)
        seed = sample.pop(SEED, None)
        for step in first:
            sample = step.apply(sample, seed)
        for step in last:
            if step.op.draws:
                sample[_DRAWS.format(step.index)] = step.draw(seed)
        return sample

    def batch(samples: Sample) -> Sample:
        samples = dict(samples)
        for step in last:
            draws = samples.pop(_DRAWS.format(step.index), None)
            samples = step.function(samples, **({} if draws is None else {"draws": draws}))
        return samples

    return one, batch


@dataclass(frozen=True)
class _Step:
    """A call that is ready to run; `index` is its position in the string."""

    op: Op
    function: Function
    index: int

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.StatelessRandomUniform(shape=[self.op.draws], seed=self._own(seed))

    def apply(self, sample: Sample, seed: tf.Tensor | None) -> Sample:
        if self.op.draws:
            return self.function(sample, draws=self.draw(seed))
        if SEED in inspect.signature(self.function).parameters:
            return self.function(sample, seed=self._own(seed))
        return self.function(sample)

    def _own(self, seed: tf.Tensor | None) -> tf.Tensor:
        if seed is None:
            raise ValueError("a random preprocessing op needs an entry `seed` in the sample")
        return seed + tf.constant([0, self.index << 48], tf.int64)


def _steps(spec: str, fuse: bool) -> list[_Step]:
    calls = list(enumerate(parse(spec)))
    for name, operation in OPS.items() if fuse else ():
        calls = _fuse(calls, name, operation.fuses)
    return [
        _Step(OPS[call.name], OPS[call.name].factory(*call.args, **call.kwargs), index)
        for index, call in calls
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
