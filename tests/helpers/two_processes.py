"""One of two processes of four CPU devices each, for test_distributed.py: index, port, folder.

What it finds goes to `<index>.json` and, of process 0, to arrays in `<mesh>.npz`.
"""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from clipa_jax import losses, sharding, trees
from clipa_jax.errors import UserError
from clipa_jax.runtime import cli, distributed, fingerprint
from clipa_jax.training import checkpoint, gradients, spikes, steps
from tests.helpers import checkpoints as saved_states
from tests.helpers import tiny

MESHES = {"dp": {}, "fsdp": {"replica": 2}, "fsdp_tp": {"tensor": 2}}
PEER_TIMEOUT = 20  # seconds
STEPS = 2
BUCKET = "gs://bucket/two"


def train(name: str, devices: list[jax.Device] | None = None) -> dict[str, np.ndarray]:
    """Losses and weights of a few steps of gradient descent, whose updates are the gradients."""
    c = tiny.config(sharding__preset=name)
    mesh = sharding.make_mesh(**MESHES[name], devices=devices)
    spec = tiny.make_spec(c, mesh, optax.sgd(1.0))
    update = steps.make_update(
        spec,
        mesh,
        gradients.build(spec, mesh, losses.build("softmax", mesh)),
        steps.Mask("random", 0.5),
        jnp.zeros_like,
    )
    state, found = spec.with_params(weights(), seed=0), {}
    split = sharding.batch_sharding(mesh)
    batches = [
        {
            key: jax.make_array_from_callback(rows.shape, split, rows.__getitem__)
            for key, rows in tiny.batch(c, step).items()
        }
        for step in range(STEPS)
    ]
    # Compiles in half the time into slower code.
    quickly = {"xla_backend_optimization_level": 0}
    update = update.lower(state, batches[0]).compile(compiler_options=quickly)
    for step, batch in enumerate(batches):
        state, values = update(state, batch)
        found |= {f"{step}/{key}": np.asarray(values[key]) for key in ("loss", "l2_grads")}
    whole = jax.jit(lambda params: params, out_shardings=sharding.replicated(mesh))(state.params)
    return found | {leaf: np.asarray(x) for leaf, x in trees.flatten(whole).items()}


@functools.cache
def weights() -> Any:
    """The first parameters, on the host."""
    return tiny.init(tiny.config())[1]


def checkpoints(folder: Path, index: int) -> int:
    """Moves a checkpoint from `one` to `two`, and through a bucket; the step resumed where only
    process 1 sees damage."""
    laid = saved_states.spec("unrolled", 8, "fsdp_tp", 2)
    alone = checkpoint.read_params(str(folder / "one"))  # as a stage reads those before it
    moved = saved_states.restore(folder / "one", laid)
    assert fingerprint.of(trees.unflatten(alone)) == fingerprint.of(moved.state.params)
    for place in (folder / "two", BUCKET):
        saved_states.save(place, moved.state)
    again = saved_states.restore(BUCKET, laid)
    assert fingerprint.of(again.state.params) == fingerprint.of(moved.state.params)
    read = checkpoint.Checkpoints._read
    if index == 1:
        checkpoint.Checkpoints._read = lambda self, step, plan: (
            ({}, "torn") if step == 10 else read(self, step, plan)
        )
    return int(saved_states.restore(folder / "one", laid).state.step)


def rollbacks(folder: Path, index: int) -> list[Any]:
    """What becomes of two spikes, where process 1 does not see what process 0 has written."""
    place, losses, ends = folder / f"spikes_{index}", [2.0, 2.1] * 40, []
    place.mkdir()
    for samples in (320, 480):
        watch = spikes.Spikes(place, lambda *part: {}, 8, losses, samples, max_rollbacks=1)
        try:
            watch.add(81, 9.0, samples + 8)
        except (spikes.Rollback, UserError) as end:
            ends.append([type(end).__name__, watch.left_out])
    return ends


def main(argv: list[str]) -> None:
    index, port, folder = int(argv[1]), argv[2], Path(argv[3])
    jax.config.update("jax_num_cpu_devices", 4)
    distributed.join(f"localhost:{port}", 2, index, peer_timeout=PEER_TIMEOUT)
    assert (jax.process_index(), jax.process_count(), jax.device_count()) == (index, 2, 8)
    for name in MESHES:
        found = train(name)
        if distributed.first():
            np.savez(folder / f"{name}.npz", **found)

    flag = distributed.Flag()
    said = {
        "flag": [flag.read(15 if index == 1 and call >= 2 else 0) for call in range(5)],
        "from_first": distributed.from_first(["ä", index]),
        "from_all": distributed.from_all(10 + index),
        "rollbacks": rollbacks(folder, index),
    }
    said["torn"] = checkpoints(folder, index)
    (folder / f"{index}.json").write_text(json.dumps(said))
    multihost_utils.sync_global_devices("both have written")
    if index == 0:  # the one that the others ask for their peers
        os.kill(os.getpid(), signal.SIGKILL)
    train("dp")


if __name__ == "__main__":
    cli.run(main, positional=True)
