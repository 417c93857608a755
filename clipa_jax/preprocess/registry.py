"""Preprocessing as a string of named ops: `decode|inception_crop(84)|jitter(0.4)`.

An op is a factory: it takes the literals of the string and returns a function from a sample (a
dict of tensors) to a sample. Strings are parsed as Python literals, never evaluated, and checked
against the signatures of the factories before any data is read.

A random op is a pure function of the sample and its random numbers, so a sample is treated in the
same way in a resumed run and on any number of hosts. The function takes a keyword `seed`, an int64
pair that depends on (run seed, sample, position of the op), or `draws`, uniform numbers drawn from
that seed.

n samples of a batch, D numbers drawn.
"""

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.preprocess import draws

Sample = dict[str, Any]
Function = Callable[..., Sample]
Factory = Callable[..., Function]

SEED = "seed"  # entry of a sample: its int64 pair


@dataclass(frozen=True)
class Op:
    """A registered op."""

    factory: Factory  # literals of the string -> function from a sample to a sample
    draws: int = 0  # D, uniform numbers that the function takes as its keyword `draws`
    entry: str = "image"  # or "text" for captions and tokens; ops on different entries commute
    batched: bool = False  # the function also takes batches, all entries with a leading axis


OPS: dict[str, Op] = {}


def op(name: str, **properties: Any) -> Callable[[Factory], Factory]:
    """Registers a factory under `name`, with the properties of an `Op`."""

    def register(factory: Factory) -> Factory:
        if name in OPS:
            raise ValueError(f"op {name!r} is registered twice")
        OPS[name] = Op(factory, **properties)
        return factory

    return register


@dataclass(frozen=True)
class Call:
    """One op of a preprocessing string with its literal arguments and its position there."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        keywords = (f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *keywords])})"


def parse(spec: str) -> list[Call]:
    """Splits a preprocessing string into calls, checked against the registered ops."""
    return [_parse_op(part, spec, position) for position, part in enumerate(_split(spec))]


def build(spec: str) -> Function:
    """A function that applies the ops of a preprocessing string to one sample, in order.

    Random ops need an entry `seed`, an int64 pair, which is dropped at the end.
    """
    return chain([Step.of(call) for call in parse(spec)])


@dataclass(frozen=True)
class Step:
    """An op with its arguments."""

    op: Op
    call: Call
    function: Function  # of a sample, or of a batch if the op is batched
    keyword: str  # of the function, for its random numbers: "draws", "seed" or "" for none

    @classmethod
    def of(cls, call: Call) -> "Step":
        """Calls the factory of an op."""
        registered = OPS[call.name]
        function = registered.factory(*call.args, **call.kwargs)
        seeded = SEED in inspect.signature(function).parameters
        return cls(registered, call, function, "draws" if registered.draws else SEED * seeded)

    @property
    def entry(self) -> str:
        """The entry of a batch that holds the op's random numbers until it runs."""
        return f"_draws_{self.call.position}_{self.call.name}"

    def numbers(self, seed_n2: tf.Tensor) -> tf.Tensor:
        """The op's random numbers for n samples: draws, float32 (n, D), or seeds, int64 (n, 2)."""
        own_n2 = seed_n2 + tf.constant([0, self.call.position << 48], tf.int64)
        return draws.uniform(own_n2, self.op.draws) if self.op.draws else own_n2

    def apply(self, sample: Sample) -> Sample:
        """Runs the op on a sample or batch that holds its random numbers, which are dropped."""
        if not self.keyword:
            return self.function(sample)
        rest = dict(sample)
        numbers = rest.pop(self.entry)
        return self.function(rest, **{self.keyword: numbers})


def chain(steps: Sequence[Step]) -> Function:
    """A function that applies steps to one sample; see `build`."""

    def apply(sample: Sample) -> Sample:
        sample = dict(sample)
        seed_2 = sample.pop(SEED, None)
        for step in steps:
            if step.keyword and seed_2 is None:
                raise ValueError(f"{step.call} is random: the sample needs an entry `seed`")
            if step.keyword:
                seed_12 = tf.convert_to_tensor(seed_2, tf.int64)[None]
                sample = {**sample, step.entry: step.numbers(seed_12)[0]}
            sample = step.apply(sample)
        return sample

    return apply


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


def _parse_op(text: str, spec: str, position: int) -> Call:
    call = _literal_call(text.strip(), position)
    if call is None:
        raise ConfigError(
            f"preprocessing op {text.strip()!r} in {spec!r} is not of the form name or "
            f"name(literals)"
        )
    if call.name not in OPS:
        raise ConfigError(unknown("preprocessing op", call.name, OPS) + f" (in {spec!r})")
    signature = inspect.signature(OPS[call.name].factory)
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        message = f"preprocessing op {call.name}{signature} in {spec!r}: {error}"
        raise ConfigError(message) from None
    return call


def _literal_call(text: str, position: int) -> Call | None:
    """`name` or `name(literals)`; None for anything else."""
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return Call(node.id, (), {}, position)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = tuple(ast.literal_eval(arg) for arg in node.args)
            kwargs = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            return Call(node.func.id, args, kwargs, position)
    except (SyntaxError, ValueError):
        pass
    return None
