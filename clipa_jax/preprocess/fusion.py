"""Fusing and branching: arranges the ops of a preprocessing string such that a chunk runs fast.

Neighboring ops are replaced by faster ones (`FUSED`). Ops that take whole batches are gathered,
since TensorFlow needs a microsecond or two for every small op, once a sample or once a batch.
An op may be a `Switch`, whose branches are applied one after the other to all of their samples.

n samples of a batch.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from clipa_jax.preprocess.registry import Call, Function, Sample, Step, parse

# Neighboring ops -> the ops that replace them, called with the arguments of the last one and at
# its position; the others must have no arguments. The result is nearly the same, and the same
# numbers are drawn.
FUSED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("decode", "inception_crop"): ("read_size", "draw_box", "decode_box"),
}


@dataclass(frozen=True)
class Switch:
    """A function of a sample that takes one of several branches.

    On a single sample TensorFlow starts the ops of all branches; see `data.map_chunk` for chunks.
    """

    index: str  # entry, int32 (), that selects the branch; numbers too large select the last
    branches: Sequence[Callable[[Sample], tf.Tensor]]  # to the new value of the entry `result`
    entries: tuple[str, ...]  # what the branches read besides `result`; dropped afterwards
    result: str  # the entry that is replaced
    spec: tf.TensorSpec  # of the new value

    def __call__(self, sample: Sample) -> Sample:
        branches = [functools.partial(branch, sample) for branch in self.branches]
        return self.replaced(sample, tf.switch_case(sample[self.index], branches))

    def replaced(self, sample: Sample, result: tf.Tensor) -> Sample:
        """The sample, or the batch, with the result and without the entries of the branches."""
        used = {self.index, *self.entries}
        rest = {name: value for name, value in sample.items() if name not in used}
        return {**rest, self.result: result}


@dataclass(frozen=True)
class Phase:
    """Ops that run together, all of them on a batch or all on single samples."""

    steps: tuple[Step, ...]

    @property
    def batched(self) -> bool:
        """Whether `function` takes a batch of n samples; else it takes one sample."""
        return self.steps[0].op.batched

    @property
    def entries(self) -> frozenset[str]:
        """ "image", "text" or both; see `Op`."""
        return frozenset(step.op.entry for step in self.steps)

    @property
    def function(self) -> Function:
        """Of the sample or batch, which holds the random numbers; a `Switch` has its own phase."""
        return self.steps[0].function if _is_switch(self.steps[0]) else self._apply

    def _apply(self, sample: Sample) -> Sample:
        for step in self.steps:
            sample = step.apply(sample)
        return sample


def phases(spec: str) -> list[Phase]:
    """The phases of a preprocessing string, in order; none for "".

    Batched ops that stand before others run later, if those work on other entries.
    """
    steps = [Step.of(call) for call in fuse(parse(spec))] if spec else []
    return [Phase(tuple(part)) for run in _runs(steps) for part in _at_switches(run)]


def draw(steps: Sequence[Phase], seed_n2: tf.Tensor) -> Sample:
    """The entries with all random numbers of n samples, from their seeds."""
    random = [step for phase in steps for step in phase.steps if step.keyword]
    return {step.entry: step.numbers(seed_n2) for step in random}


def fuse(calls: Sequence[Call]) -> list[Call]:
    """The calls with `FUSED` ops in place of those that they replace."""
    fused: list[Call] = []
    for call in calls:
        fused.append(call)
        for pattern, replacements in FUSED.items():
            tail = fused[-len(pattern) :]
            plain = not any(other.args or other.kwargs for other in tail[:-1])
            if plain and tuple(other.name for other in tail) == pattern:
                args = (call.args, call.kwargs, call.position)
                fused[-len(pattern) :] = [Call(name, *args) for name in replacements]
    return fused


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups steps into as few runs as possible, each batched or not.

    A batched step runs last if no step after it works on the same entry sample by sample. Any
    other step joins the earliest run of its kind that does not pass a step on its entry.
    """
    early: list[Step] = []
    late: list[Step] = []
    for step in reversed(steps):
        movable = step.op.batched and all(step.op.entry != other.op.entry for other in early)
        (late if movable else early).insert(0, step)
    runs: list[list[Step]] = []
    for step in early:
        target = None
        for run in reversed(runs):
            if run[0].op.batched == step.op.batched:
                target = run
            if any(other.op.entry == step.op.entry for other in run):
                break
        if target is None:
            runs.append([step])
        else:
            target.append(step)
    if late and runs and runs[-1][0].op.batched:
        runs[-1] += late
    elif late:
        runs.append(late)
    return runs


def _at_switches(run: Sequence[Step]) -> list[list[Step]]:
    """Cuts a run such that each switch stands alone."""
    parts: list[list[Step]] = []
    for step in run:
        if not parts or _is_switch(step) or _is_switch(parts[-1][0]):
            parts.append([])
        parts[-1].append(step)
    return parts


def _is_switch(step: Step) -> bool:
    return isinstance(step.function, Switch)
