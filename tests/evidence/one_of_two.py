"""One of two processes of four CPU devices that evaluate a checkpoint; see test_command.py."""

import sys
from pathlib import Path

import jax

index, port, root, out = int(sys.argv[1]), *sys.argv[2:]
jax.config.update("jax_platforms", "cpu")

sys.path.insert(0, str(Path(__file__).parent))
import made  # noqa: E402

from clipa_jax.evidence.command import Command  # noqa: E402

# The folder of `only_0` is there for process 0 alone, as on a disk that is not shared.
only_0 = made.EVALS["zero_shot"]
if index == 1:
    only_0 = {**only_0, "source": "tfds:/no/such"}
config = made.evaluation({"only_0": only_0, **made.EVALS})
config.cpu_devices = 4
config.mesh.tensor = 2
config.sharding.preset = "fsdp_tp"
config.distributed.update(coordinator=f"localhost:{port}", processes=2, process=index)
sys.exit(Command(config, out=out).evaluate(root))
