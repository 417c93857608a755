"""The order of a mixture: whose turn it is, as a function of a sample's count alone.

A mixture has K lanes, as its components have. Sample `count` is turn `count // K` of lane
`count % K`, and each turn of a lane is given to one component. Weights are whole numbers; the
first component has had round-down(turn * a_1 / (a_1 + ... + a_J)) turns of a lane, the second
its part of the turns that are left, and so on, each with a phase that differs from lane to
lane, so that lanes do not all turn to the same component at once. Whole numbers make this
exact on every machine and at every length.

J components, K lanes, X turns looked at.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.data.order import LaneOrder, Order

_WHOLE = 1 << 20  # what the weights add up to
_GOLDEN = 0.6180339887498949


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers of sum 2^20, none of them 0; the sum of `weights` is free."""
    share = np.asarray(weights, np.float64) / sum(weights) * _WHOLE
    whole = np.maximum(np.floor(share), 1).astype(np.int64)
    behind = np.argsort(whole - share, kind="stable")  # those that lost most by rounding
    whole[behind[: max(_WHOLE - int(whole.sum()), 0)]] += 1
    return tuple(whole.tolist())


@dataclass(frozen=True)
class Schedule:
    """Which component has a turn.

    In every lane, after any number of turns, each component has had its share of them to within
    J - 1: each of at most J - 1 roundings is off by less than one, and what is left is divided.

    Attributes:
      weights: whole numbers (J,).
      lanes: K.
    """

    weights: tuple[int, ...]
    lanes: int

    def given(self, lane_X: np.ndarray, turn_X: np.ndarray) -> np.ndarray:
        """How many turns of their lanes components have had before these: int64 (J, X)."""
        left_X, rest = np.asarray(turn_X, np.int64), sum(self.weights)
        given = []
        for level, weight in enumerate(self.weights[:-1]):
            # The first phases are evenly spread, so that the lanes together are off by less than
            # one; those below are spread otherwise, since they see what the ones above left.
            spread_X = lane_X / self.lanes if level == 0 else (lane_X + 1) * _GOLDEN * level % 1
            phase_X = np.floor(spread_X * rest).astype(np.int64)
            given.append((left_X * weight + phase_X) // rest)
            left_X, rest = left_X - given[-1], rest - weight
        return np.stack([*given, left_X])

    def pick(self, lane_X: np.ndarray, turn_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whose turn it is, and its how manieth of the lane: int64 (X,) both."""
        before_JX, after_JX = self.given(lane_X, turn_X), self.given(lane_X, turn_X + 1)
        component_X = np.argmax(after_JX - before_JX, 0)
        return component_X, np.take_along_axis(before_JX, component_X[None], 0)[0]


@dataclass(frozen=True, eq=False)
class MixedOrder:
    """Components in turn; component j's n-th sample of lane k is its own sample n K + k.

    Attributes:
      components: their orders; those with lanes have as many as the mixture.
      schedule: whose turn it is.
      first_shard_J: where each component's shards begin among all of them.
    """

    components: tuple[Order, ...]
    schedule: Schedule
    first_shard_J: np.ndarray

    @property
    def lanes(self) -> int:
        return self.schedule.lanes

    @property
    def fingerprint(self) -> str:
        parts = [order.fingerprint for order in self.components]
        text = repr(("mixed", self.schedule, parts))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def rows(self, batch_size: int) -> np.ndarray:
        return np.arange(batch_size).reshape(-1, self.lanes).T.ravel()

    def locate(self, count_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shard_X, index_X = np.empty((2, len(count_X)), np.int64)
        lane_X = count_X % self.lanes
        component_X, number_X = self.schedule.pick(lane_X, count_X // self.lanes)
        for component in set(component_X.tolist()):
            here = component_X == component
            own = number_X[here] * self.lanes + lane_X[here]
            shard, index_X[here] = self.components[component].locate(own)
            shard_X[here] = shard + self.first_shard_J[component]
        return shard_X, index_X

    def turns(self, lane: np.ndarray, first: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Whose the turns [first, first + size) of a lane are: int64 (size,)."""
        turn_X = int(first) + np.arange(int(size))
        return self.schedule.pick(np.full(len(turn_X), int(lane)), turn_X)[0].astype(np.int64)

    def starts(self, lanes: Iterable[int], count: int) -> np.ndarray:
        """Where lanes go on at `count`, a multiple of K: int64 (lanes, 1 + J, 2), the turn twice,
        then for each component (epoch, place) of `LaneOrder.start`, or (0, its how manieth)."""
        turn = count // self.lanes
        found = []
        for lane in lanes:
            given_J = self.schedule.given(np.array([lane]), np.array([turn]))[:, 0].tolist()
            parts = [
                order.start(lane, number * self.lanes)
                if isinstance(order, LaneOrder)
                else (0, number)
                for order, number in zip(self.components, given_J, strict=True)
            ]
            found.append([(turn, turn), *parts])
        return np.array(found, np.int64)
