"""Checkpoints with Orbax (asynchronous, sharded, atomic), and the first state of a run.

The checkpoint of step N is the folder `checkpoints/N` with three items: `params` (weights, named
as in the released files), `train` (optimizer, step, key) and `position` (JSON: data position,
clock, fingerprints of the other two). Layers are stored unrolled, whether or not the model scans.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout, surgery
from clipa_jax.runtime import distributed, files, fingerprint
from clipa_jax.training.state import StateSpec, TrainState
from clipa_jax.training.workdir import CHECKPOINTS, CONFIG

Position = dict[str, Any]
ITEMS = ("params", "train", "position")
FINGERPRINTS = "fingerprints"  # in `position`: of the other items


@dataclass(frozen=True)
class Start:
    """The start of a run."""

    state: TrainState
    position: Position  # of the data and the clock; empty at the beginning of a stage
    lines: list[str]  # for the log: the origin of the state, and each leaf that was changed


class Weights(Protocol):
    """Weights that a stage may start from; see `clipa_jax.weights`."""

    @property
    def config(self) -> ConfigDict | None:
        """The config that trained them, if known."""

    def read_like(self, shapes: Mapping[str, Any]) -> Mapping[str, Any]:
        """The weights by name, layers unrolled, in the form of parameters with these shapes."""


class Checkpoints:
    """The checkpoints of one stage.

    The newest `keep_last` are kept (at least 2 guard against a damaged one), and those at multiples
    of the step `keep_every`.
    """

    def __init__(self, workdir: str, *, keep_last: int = 2, keep_every: int | None = None):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep_last, keep_period=keep_every, cleanup_tmp_directories=True
        )
        self.folder = files.absolute(workdir) / CHECKPOINTS
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=ITEMS)
        self._damaged: set[int] = set()  # steps that could not be read
        self._last: int | None = None  # the step of the last save
        self._pending = False  # whether the last save may still fail

    def check_room(self, spec: StateSpec) -> None:
        """Raises `CheckpointError` if the disk lacks space for one more checkpoint."""
        if files.scheme(self.folder):
            return
        leaves = jax.tree.leaves((spec.shapes.params, spec.shapes.opt_state))
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise CheckpointError(
                f"a checkpoint takes {needed / 1e9:,.1f} GB, and {self.folder} has "
                f"{free / 1e9:,.1f} GB left; free some space, or use another --workdir"
            )

    def save(self, state: TrainState, position: Position) -> None:
        """Starts to write the state; returns once it is copied from the device.

        Raises `CheckpointError` if this checkpoint, or the one before, cannot be written.
        """
        step = int(state.step)
        if step in self._damaged:
            self._damaged.remove(step)
            self._manager.delete(step)
        if step in self._manager.all_steps():
            return
        with self._writing():
            self._manager.wait_until_finished()
        params, train = jax.jit(_items)(state)
        fingerprints = {"params": fingerprint.of(params), "train": fingerprint.of(train)}
        self._last, self._pending = step, True
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(params),
                    train=ocp.args.StandardSave(train),
                    position=ocp.args.JsonSave({**position, FINGERPRINTS: fingerprints}),
                ),
                force=True,  # else Orbax skips steps before a damaged last one
            )

    def check(self) -> None:
        """Raises `CheckpointError` if a background write has failed; does not wait."""
        if self._pending and not self._manager.is_saving_in_progress():
            self._pending = False
            with self._writing():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written; `CheckpointError` if a write failed."""
        with self._writing():
            self._manager.close()

    def restore_last(self, spec: StateSpec) -> Start | None:
        """The newest readable checkpoint, with the shardings of `spec`; None if there is none.

        A damaged checkpoint is logged and skipped, and overwritten when its step is saved again.
        All processes use the same checkpoint. Raises `CheckpointError` if none can be read, or the
        newest readable one is of another model or optimizer.
        """
        steps = distributed.from_first(sorted(self._manager.all_steps(), reverse=True))
        for step in steps:
            items, damage = self._read(step, spec)
            if max(distributed.from_all(int(bool(damage)))):
                damage = damage or "another process cannot read it"
            else:
                damage = _altered(items)  # computed on all devices, so all processes agree
            if not damage:
                origin = f"resumes at step {step} from {self.folder}"
                return Start(_rebuild(spec, items), items["position"], [origin])
            self._damaged.add(step)
            logging.error(
                "the checkpoint of step %d in %s cannot be read, trying the one before it: %s",
                *(step, self.folder, damage),
            )
        if steps:
            raise CheckpointError(
                f"none of the checkpoints {steps} in {self.folder} can be read; the log says why. "
                "Move the folder away to start the stage again"
            )
        return None

    def _read(self, step: int, spec: StateSpec) -> tuple[dict[str, Any], str]:
        """(items of a checkpoint, "") or ({}, the damage); does not wait for other processes."""
        handler, items = ocp.StandardCheckpointHandler(), {}
        try:
            folder = self.folder / str(step)
            items["position"] = dict(ocp.JsonCheckpointHandler().restore(folder / "position"))
            expected = _abstract_items(spec.shapes)
            stored = {item: handler.metadata(folder / item).tree for item in expected}
            if not _differences(stored, expected):
                for item, shapes in expected.items():
                    args = ocp.args.StandardRestore(shapes)
                    items[item] = handler.restore(folder / item, args=args)
        except Exception as error:  # noqa: BLE001, a damaged file raises anything
            self._check_reachable()
            return {}, f"{type(error).__name__}: {error!s:.300}"
        differ = _differences(stored, expected)
        if differ:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} does not fit the config: "
                f"{'; '.join(differ[:3])}{f' and {len(differ) - 3} more' if differ[3:] else ''}. "
                f"Go on with the config in {self.folder.parent / CONFIG}, or use another "
                f"--workdir, from these weights with --config.init={self.folder.parent}"
            )
        return items, ""

    def _check_reachable(self) -> None:
        """Raises `CheckpointError` if a bucket does not answer: then no checkpoint is damaged."""
        try:
            self.folder.exists()
        except Exception as error:
            raise CheckpointError(
                f"{self.folder} cannot be reached: {files.reason(error)}; run the command again"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the errors of a failed write into `CheckpointError`."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise  # of the devices or other processes, not of the file system
        except Exception as error:  # noqa: BLE001, each file system has errors of its own
            known = (os.strerror(number) for number in errno.errorcode)
            reason = next((r for r in known if r in str(error)), files.reason(error))
            raise CheckpointError(
                f"the checkpoint of step {self._last} cannot be written to {self.folder}: "
                f"{reason}. Earlier ones are untouched; free some space or repair the folder, and "
                "run the same command again"
            ) from error


def first_state(
    checkpoints: Checkpoints,
    spec: StateSpec,
    *,
    seed: int,
    init: str,
    edits: Sequence[str],
    open_weights: Callable[[str], Weights],
) -> Start:
    """The start of a stage: its last checkpoint, else the given weights, else from scratch.

    `init` is the path of the weights, "" for none, which `open_weights` opens; `edits` is the
    surgery that they may need. Raises `CheckpointError` if no checkpoint can be read, weights do
    not fit, or the disk is full.
    """
    checkpoints.check_room(spec)
    resumed = checkpoints.restore_last(spec)
    if resumed is not None:
        return resumed
    if not init:
        return Start(spec.init(seed), {}, ["starts from scratch"])
    target = trees.flatten(layout.unrolled_shapes(spec.shapes.params))
    fresh = lambda: trees.flatten(layout.unroll(spec.init(seed).params))  # noqa: E731
    leaves, lines = surgery.apply(edits, dict(open_weights(init).read_like(target)), target, fresh)
    leaves = {
        name: jax.device_put(jnp.asarray(leaf, target[name].dtype), target[name].sharding)
        for name, leaf in leaves.items()
    }
    stack = jax.jit(
        lambda unrolled: layout.like(spec.shapes.params, unrolled),
        out_shardings=spec.shardings.params,
    )
    params = stack(trees.unflatten(leaves))
    origin = f"starts from the weights in {init}, optimizer fresh, step 0"
    return Start(spec.with_params(params, seed), {}, [origin, *lines])


def read_params(workdir: str, step: int | None = None) -> dict[str, Any]:
    """The weights of a stage's checkpoint, the newest by default, by name, on the host.

    Raises `CheckpointError` if there is no checkpoint, or it is damaged.
    """
    folder = files.absolute(workdir) / CHECKPOINTS
    if step is None and folder.exists():
        step = max(ocp.utils.checkpoint_steps(folder), default=None)
    if step is None:
        raise CheckpointError(f"{folder} holds no checkpoint")
    items: dict[str, Any] = {}
    try:
        items["position"] = ocp.JsonCheckpointHandler().restore(folder / str(step) / "position")
        handler, at = ocp.StandardCheckpointHandler(), folder / str(step) / "params"
        host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=host),
            handler.metadata(at).tree,
        )
        items["params"] = handler.restore(at, args=ocp.args.StandardRestore(abstract))
        damage = _altered(items)
    except Exception as error:  # noqa: BLE001, a damaged file raises anything
        damage = f"{type(error).__name__}: {error!s:.300}"
    if damage:
        raise CheckpointError(f"the weights of step {step} in {folder} cannot be read: {damage}")
    return trees.flatten(jax.device_get(items["params"]))


def _items(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`params`, `train`) as stored; traceable."""
    train = {
        "step": state.step,
        "opt": layout.unroll(state.opt_state),
        "rng": jax.random.key_data(state.rng),
    }
    return layout.unroll(state.params), train


def _abstract_items(shapes: TrainState) -> dict[str, Any]:
    """`_items` as shapes with shardings, by name."""
    rng = jax.eval_shape(jax.random.key_data, shapes.rng)
    train = {
        "step": shapes.step,
        "opt": layout.unrolled_shapes(shapes.opt_state),
        "rng": jax.ShapeDtypeStruct(rng.shape, rng.dtype, sharding=shapes.rng.sharding),
    }
    return {"params": layout.unrolled_shapes(shapes.params), "train": train}


def _rebuild(spec: StateSpec, items: Mapping[str, Any]) -> TrainState:
    """The state from its stored items."""

    def rebuild(params: Any, train: Any) -> TrainState:
        return TrainState(
            step=train["step"],
            params=layout.like(spec.shapes.params, params),
            opt_state=layout.like(spec.shapes.opt_state, train["opt"]),
            rng=jax.random.wrap_key_data(train["rng"]),
        )

    return jax.jit(rebuild, out_shardings=spec.shardings)(items["params"], items["train"])


def _differences(stored: Any, expected: Any) -> list[str]:
    """The differences of two trees of shapes, a sentence per leaf."""

    def descriptions(tree: Any) -> dict[str, str]:
        leaves = trees.flatten(tree)
        return {name: f"{np.dtype(x.dtype)} {tuple(x.shape)}" for name, x in leaves.items()}

    old, new = descriptions(stored), descriptions(expected)
    return [
        f"{name} is {old.get(name, 'missing')} in the checkpoint and "
        f"{new.get(name, 'missing')} in the config"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _altered(items: dict[str, Any]) -> str:
    """The items that differ from their fingerprints, as a sentence; removes the fingerprints."""
    saved = items["position"].pop(FINGERPRINTS, {})
    read = {item: number for item, number in saved.items() if item in items}
    wrong = [item for item, number in read.items() if fingerprint.of(items[item]) != number]
    return f"{' and '.join(wrong)} read back with other numbers than were saved" if wrong else ""
