"""Checkpoints with Orbax: asynchronous, sharded, atomic; and where a run starts.

A checkpoint of step N is the folder `checkpoints/N` with three items: `params` (the
weights alone, with the names of the released files), `train` (optimiser, step, key)
and `position` (JSON: where the data and the clock stand). All layers are stored
unrolled, so that it does not matter whether the model scans over them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from clipa_jax import trees
from clipa_jax.errors import CheckpointError
from clipa_jax.models import layout, surgery
from clipa_jax.state import StatePlan, TrainState

Position = dict[str, Any]
FOLDER = "checkpoints"
ITEMS = ("params", "train", "position")


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
      state: the first state.
      position: of the data and the clock; empty at the beginning of a stage.
      lines: for the log: where it comes from, and each leaf that was changed.
    """

    state: TrainState
    position: Position
    lines: list[str]


class Checkpoints:
    """The checkpoints of one stage.

    Args:
      workdir: the stage's folder.
      keep_last: how many of the newest to keep; at least 2 guard against a damaged one.
      keep_every: steps; multiples of it are kept for ever. None for none.
    """

    def __init__(self, workdir: str, *, keep_last: int = 2, keep_every: int | None = None):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep_last, keep_period=keep_every, cleanup_tmp_directories=True
        )
        folder = epath.Path(workdir).resolve() / FOLDER
        self._manager = ocp.CheckpointManager(folder, options=options, item_names=ITEMS)
        self._damaged: set[int] = set()  # steps that could not be read

    def save(self, state: TrainState, position: Position) -> None:
        """Starts writing the state; returns once it has left the device."""
        step = int(state.step)
        if step in self._damaged:
            self._damaged.remove(step)
            self._manager.delete(step)
        if step in self._manager.all_steps():
            return
        params, train = jax.jit(_items)(state)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                train=ocp.args.StandardSave(train),
                position=ocp.args.JsonSave(position),
            ),
            force=True,  # else Orbax skips steps before a damaged last one
        )

    def restore_last(self, plan: StatePlan) -> Start | None:
        """The newest checkpoint that can be read, laid out as planned; None without any.

        A damaged one is named in the log, and the one before it is used; it stays until its
        step is saved again.

        Raises:
          CheckpointError: there are checkpoints, but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._restore(step, plan)
            except Exception as error:  # noqa: BLE001, a damaged file raises anything
                self._damaged.add(step)
                logging.error(
                    "the checkpoint of step %d in %s cannot be read, trying the one before it: %s",
                    *(step, self._manager.directory, f"{type(error).__name__}: {error!s:.300}"),
                )
        if steps:
            raise CheckpointError(
                f"none of the checkpoints {steps} in {self._manager.directory} can be read or fits "
                "the config; the log says why. Move the folder away to start the stage anew"
            )
        return None

    def close(self) -> None:
        """Waits until everything is written; raises what went wrong meanwhile."""
        self._manager.close()

    def _restore(self, step: int, plan: StatePlan) -> Start:
        params, train = _abstract_items(plan.shapes)
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(params),
                train=ocp.args.StandardRestore(train),
                position=ocp.args.JsonRestore(),
            ),
        )

        def rebuild(params: Any, train: Any) -> TrainState:
            return TrainState(
                step=train["step"],
                params=layout.like(plan.shapes.params, params),
                opt_state=layout.like(plan.shapes.opt_state, train["opt"]),
                rng=jax.random.wrap_key_data(train["rng"]),
            )

        state = jax.jit(rebuild, out_shardings=plan.shardings)(items.params, items.train)
        origin = f"resumes at step {step} from {self._manager.directory}"
        return Start(state, dict(items.position), [origin])


def first_state(
    checkpoints: Checkpoints,
    plan: StatePlan,
    *,
    seed: int,
    init: str,
    edits: Sequence[str],
    read_weights: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
) -> Start:
    """Where the stage begins: its own last checkpoint, else given weights, else from scratch.

    Args:
      checkpoints: of this stage.
      plan: the state's shapes and shardings.
      seed: of the run.
      init: where weights come from, or "" for none: a stage's folder, or a file of another form.
      edits: surgery that the weights may need, see `models.surgery`.
      read_weights: reads `init` as weights by name, layers unrolled; is given the model's
        parameters by name.

    Raises:
      CheckpointError: a checkpoint cannot be read, or its weights do not fit.
    """
    resumed = checkpoints.restore_last(plan)
    if resumed is not None:
        return resumed
    if not init:
        return Start(plan.init(seed), {}, ["starts from scratch"])
    target = trees.flatten(layout.unrolled_shapes(plan.shapes.params))

    def fresh() -> Mapping[str, Any]:
        return trees.flatten(layout.unroll(plan.init(seed).params))

    leaves, lines = surgery.apply(edits, dict(read_weights(init, target)), target, fresh)
    leaves = {name: _cast(leaf, target[name]) for name, leaf in leaves.items()}
    stack = jax.jit(
        lambda unrolled: layout.like(plan.shapes.params, unrolled),
        out_shardings=plan.shardings.params,
    )
    params = stack(trees.unflatten(leaves))
    origin = f"starts from the weights in {init}, optimiser fresh, step 0"
    return Start(plan.with_params(params, seed), {}, [origin, *lines])


def read_params(workdir: str, step: int | None = None) -> dict[str, Any]:
    """The weights alone of a stage's checkpoint, by name, on the host.

    Args:
      workdir: the stage's folder.
      step: which checkpoint; the newest by default.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    folder = epath.Path(workdir).resolve() / FOLDER
    options = ocp.CheckpointManagerOptions(read_only=True)
    handlers = {"params": ocp.StandardCheckpointHandler()}
    with ocp.CheckpointManager(folder, options=options, item_handlers=handlers) as manager:
        step = manager.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(f"{folder} holds no checkpoint")
        shapes = manager.item_metadata(step).params
        host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=host), shapes.tree
        )
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract))
        return trees.flatten(jax.device_get(manager.restore(step, args=args).params))


def _items(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`params`, `train`) as they are stored; traceable."""
    train = {
        "step": state.step,
        "opt": layout.unroll(state.opt_state),
        "rng": jax.random.key_data(state.rng),
    }
    return layout.unroll(state.params), train


def _abstract_items(shapes: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """`_items` as shapes with shardings."""
    rng = jax.eval_shape(jax.random.key_data, shapes.rng)
    train = {
        "step": shapes.step,
        "opt": layout.unrolled_shapes(shapes.opt_state),
        "rng": jax.ShapeDtypeStruct(rng.shape, rng.dtype, sharding=shapes.rng.sharding),
    }
    return layout.unrolled_shapes(shapes.params), train


def _cast(leaf: Any, target: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.device_put(jax.numpy.asarray(leaf, target.dtype), target.sharding)
