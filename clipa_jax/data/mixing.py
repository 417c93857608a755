"""The order of a mixture: which component a sample comes from, as a function of its count alone.

A mixture has K lanes, like its components. Sample `count` is draw `count // K` of lane
`count % K`, and each draw of a lane takes a sample of one component. With whole weights a_j, the
first component has had floor(draw * a_1 / (a_1 + ... + a_J)) draws of a lane, the second its part
of the draws that are left, and so on. Phases differ from lane to lane, so that lanes do not all
draw from the same component at once. Whole numbers make this exact at every length.

J components, K lanes, X draws.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clipa_jax.data.order import LaneOrder, Order

_WHOLE = 1 << 20  # sum of the weights
_GOLDEN = 0.6180339887498949


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights of any sum as whole numbers of sum 2^20, none of them 0."""
    share = np.asarray(weights, np.float64) / sum(weights) * _WHOLE
    whole = np.maximum(np.floor(share), 1).astype(np.int64)
    behind = np.argsort(whole - share, kind="stable")  # those that lost most by rounding
    whole[behind[: max(_WHOLE - int(whole.sum()), 0)]] += 1
    return tuple(whole.tolist())


@dataclass(frozen=True)
class Schedule:
    """The component of each draw.

    In every lane, after any number of draws, each component has had its share of them to within
    J - 1: each of at most J - 1 roundings is off by less than one.
    """

    weights: tuple[int, ...]  # (J,)
    lanes: int  # K

    def before(self, lane_X: np.ndarray, draw_X: np.ndarray) -> np.ndarray:
        """Draws that each component has had of a lane before these draws: int64 (J, X)."""
        left_X, rest = np.asarray(draw_X, np.int64), sum(self.weights)
        before: list[np.ndarray] = []
        for level, weight in enumerate(self.weights[:-1]):
            # The first phases are evenly spread, so that the lanes together are off by less than
            # one; the others are spread differently, since they depend on those before them.
            spread_X = lane_X / self.lanes if level == 0 else (lane_X + 1) * _GOLDEN * level % 1
            phase_X = np.floor(spread_X * rest).astype(np.int64)
            before.append((left_X * weight + phase_X) // rest)
            left_X, rest = left_X - before[-1], rest - weight
        return np.stack([*before, left_X])

    def pick(self, lane_X: np.ndarray, draw_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The component of each draw, and its index within the lane: int64 (X,) both."""
        before_JX, after_JX = self.before(lane_X, draw_X), self.before(lane_X, draw_X + 1)
        component_X = np.argmax(after_JX - before_JX, 0)
        return component_X, np.take_along_axis(before_JX, component_X[None], 0)[0]


@dataclass(frozen=True, eq=False)
class MixedOrder:
    """The order of a mixture; the n-th sample of component j in lane k is its sample n K + k."""

    components: tuple[Order, ...]  # those with lanes have as many as the mixture
    schedule: Schedule
    first_shard_J: np.ndarray  # of each component, among all shards

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
            rows = component_X == component
            own = number_X[rows] * self.lanes + lane_X[rows]
            shard, index_X[rows] = self.components[component].locate(own)
            shard_X[rows] = shard + self.first_shard_J[component]
        return shard_X, index_X

    def draws(self, lane: np.ndarray, first: np.ndarray, size: np.ndarray) -> np.ndarray:
        """The components of draws [first, first + size) of a lane: int64 (size,)."""
        draw_X = int(first) + np.arange(int(size))
        return self.schedule.pick(np.full(len(draw_X), int(lane)), draw_X)[0].astype(np.int64)

    def starts(self, lanes: Iterable[int], count: int) -> np.ndarray:
        """Positions of lanes at `count`, a multiple of K: int64 (lanes, 1 + J, 2), the draw twice,
        then for each component (epoch, place) of `LaneOrder.start`, or (0, its number of draws)."""
        draw = count // self.lanes
        starts = []
        for lane in lanes:
            before_J = self.schedule.before(np.array([lane]), np.array([draw]))[:, 0].tolist()
            parts = [
                order.start(lane, number * self.lanes)
                if isinstance(order, LaneOrder)
                else (0, number)
                for order, number in zip(self.components, before_J, strict=True)
            ]
            starts.append([(draw, draw), *parts])
        return np.array(starts, np.int64)
