"""Counts the bundles of the packed kernels' final schedules, for the table in `kernels.py`.

python -m clipa_jax.planning.kernel_schedules --topology=v5e:2x2 [--shapes=37x16x80,8x16x64]

Needs libtpu and no TPU.
"""

import os
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import SingleDeviceSharding

from clipa_jax.models import packed
from clipa_jax.models.packed import Tiling
from clipa_jax.planning import topology
from clipa_jax.planning.kernels import Schedule
from clipa_jax.runtime import cli

TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "The slice; one chip of it is used.")
# Images, then texts, of the published stages of L/14, H/14 and G/14.
SHAPES = flags.DEFINE_list(
    "shapes",
    "37x16x64,180x16x64,346x16x64,37x16x80,180x16x80,346x16x80,37x16x104,154x16x104,346x16x104,"
    "8x12x64,32x12x64,8x16x64,32x16x64,8x20x64,32x20x64",
    "Tokens x heads x width of a head.",
)

# A line of a schedule: an address, markers of control flow, one `>` for each loop around it.
_BUNDLE = re.compile(r"\s*(?:0x[0-9a-f]+\s*)?(?:L[HBE]|P[BF])?\s*:\s*(>*)\s*\{")


def main(argv: list[str]) -> None:
    """Prints a line of the table for each shape."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        # Before libtpu is loaded.
        os.environ["LIBTPU_INIT_ARGS"] = (
            f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
            "--xla_jf_dump_llo_pass_label_regex=final_bundles"
        )
        chip = SingleDeviceSharding(topology.find(TOPOLOGY.value).devices[0])
        for shape in SHAPES.value:
            tiling = packed.tile(*map(int, shape.split("x")))
            compile_both(tiling, chip)
            names = [packed.NAME.format(k, *shape.split("x")) for k in ("forward", "backward")]
            counts = [number for name in names for number in count(Path(folder), name)]
            cli.say(f'    "{shape}": {tuple(counts)},')


def compile_both(tiling: Tiling, chip: SingleDeviceSharding) -> None:
    """Compiles the two kernels for a chip, on so many samples that the arrays lie in HBM."""
    rows, width = 64 * tiling.rows, tiling.width
    z_N3D = jax.ShapeDtypeStruct((rows, 3 * width), jnp.bfloat16, sharding=chip)
    bias_3D = jax.ShapeDtypeStruct((3 * width,), jnp.float32, sharding=chip)
    dout_ND = jax.ShapeDtypeStruct((rows, width), jnp.bfloat16, sharding=chip)

    def differentiate(z_N3D: jax.Array, bias_3D: jax.Array, dout_ND: jax.Array) -> object:
        out, vjp = jax.vjp(lambda z, bias: packed.attention(z, bias, tiling), z_N3D, bias_3D)
        return out, vjp(dout_ND)

    jax.jit(differentiate).lower(z_N3D, bias_3D, dout_ND).compile()


def count(folder: Path, name: str) -> Schedule:
    """Bundles of a kernel by loop: those of the grid, and of the windows inside it."""
    (file,) = (f for f in folder.glob("*-final_bundles.txt") if name in f.name)
    bundles = [0, 0, 0]
    for line in file.read_text().splitlines():
        match = _BUNDLE.match(line)
        if match:
            bundles[min(len(match.group(1)), 2)] += 1
    return Schedule(step=bundles[1], window=bundles[2])


if __name__ == "__main__":
    cli.run(main)
