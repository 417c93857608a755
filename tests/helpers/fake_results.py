"""Evaluators that have done their work already, and the record of what they said."""

import math

import numpy as np

from clipa_jax.evaluation import record
from clipa_jax.evaluators import EvalInfo, Outcome
from tests.helpers import tiny

IDS = [f"picture {n}" for n in range(6)]
HIT_N = np.array([1, 0, 1, 1, 0, 1], bool)
UNIT_N = np.array([0, 0, 1, 1, 2, 2])
OUTCOMES = {
    "top1": Outcome.mean(IDS, HIT_N),
    "mean_recall": Outcome.of("class_mean", IDS, value_N=HIT_N, class_N=UNIT_N),
    "t2i_r1": Outcome.mean([f"{one}/0" for one in IDS], HIT_N, UNIT_N),
    "loss": Outcome.mean(IDS, np.array([0.5, math.nan, 1, 1, 1, 1])),
}
OPTIONS = {"type": "fake", "ks": (1, 5), "batch_size": 64}


class Fake:
    """An evaluator that has done its work already."""

    def __init__(self, outcomes=None, **info):
        self._outcomes = OUTCOMES if outcomes is None else outcomes
        usual = {
            "source": "emoji",
            "split": "test",
            "data_fingerprint": "d0",
            "preprocess": "decode",
            "prompts": ["a dog"],
            "num_examples": 6,
        }
        self._info = EvalInfo(**usual | info)

    def info(self):
        return self._info

    def outcomes(self, state):
        del state
        yield from self._outcomes.items()


def make(evaluators=None, checkpoint="W/small", **more):
    """The record of fakes."""
    evaluators = {"fake": Fake()} if evaluators is None else evaluators
    said = {name: record.run(one, OPTIONS, None) for name, one in evaluators.items()}
    params = {"a": np.arange(4, dtype=np.float32)}
    return record.make(checkpoint, said, params=params, mesh=tiny.mesh(), **more)
