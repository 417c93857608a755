"""How fast a training step is, on made-up data: the accelerator's side alone.

    python tools/benchmark.py step --config=configs/model_h/pretrain.py --config.microbatch=256

Any config on any mesh. The step is the trainer's own program. Its speed stands beside what
the same devices reach, in the same run, on a plain matrix product of the config's dtype.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags, logging
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax import sharding
from clipa_jax.benchmark.timing import timed
from clipa_jax.config import schedules
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.planning import workload
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.progress import waiting
from clipa_jax.training import program

CONFIG = cli.define_config()
STAGE = flags.DEFINE_string("stage", None, "Which stage of a schedule; its first by default.")
STEPS = flags.DEFINE_integer("steps", 20, "Steps that are timed.", lower_bound=1)
WARMUP = flags.DEFINE_integer("warmup", 3, "Steps before them.", lower_bound=1)
MATRIX = flags.DEFINE_integer(
    "matrix", None, "Side of the matrix product; 8192 on accelerators, 1024 on a CPU."
)
JSON = flags.DEFINE_string("json", None, "Write the result to this file too.")


@dataclass(frozen=True)
class Result:
    """What was measured; seconds, bytes, FLOPs.

    Attributes:
      stage, settings: what ran.
      devices: number and kind.
      batch: global.
      step_seconds: the median; `fastest` and `slowest` beside it.
      matrix_rate: FLOP/s of all devices together on a plain product of `dtype`.
      model_flops: of one step; nothing recomputed counts.
      peak_memory: of a device; measured where the backend tells, else XLA's plan for the step.
      memory_source: which of the two.
    """

    stage: str
    devices: str
    batch: int
    dtype: str
    steps: int
    step_seconds: float
    fastest: float
    slowest: float
    model_flops: float
    matrix_rate: float
    peak_memory: float
    memory_source: str
    compile_seconds: float

    @property
    def samples_per_second(self) -> float:
        return self.batch / self.step_seconds

    @property
    def mfu(self) -> float:
        """Share of the measured matrix rate that the model's own FLOPs reach."""
        return self.model_flops / self.step_seconds / self.matrix_rate

    def text(self) -> str:
        """As lines for people."""
        rows = [
            ("stage", f"{self.stage}, batch {self.batch:,} on {self.devices}"),
            ("samples/s", f"{self.samples_per_second:,.1f}"),
            (
                f"step (median of {self.steps})",
                f"{_ms(self.step_seconds)} (fastest {_ms(self.fastest)}, "
                f"slowest {_ms(self.slowest)})",
            ),
            ("model FLOPs a step", f"{self.model_flops:.4g}"),
            ("matrix product", f"{self.matrix_rate / 1e12:,.3f} TFLOP/s in {self.dtype}"),
            ("MFU against it", f"{self.mfu:.1%}"),
            ("peak memory", f"{self.peak_memory / 2**30:,.2f} GiB a device ({self.memory_source})"),
            ("compiled in", f"{self.compile_seconds:,.1f} s"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"samples_per_second": self.samples_per_second, "mfu": self.mfu}


def main(argv: list[str]) -> None:
    """Measures the step of the config."""
    del argv
    stages = {stage.name: stage for stage in schedules.split(CONFIG.value)}
    name = STAGE.value or next(iter(stages))
    if name not in stages:
        raise ConfigError(f"--stage={name}: the config has {', '.join(stages)}")
    cli.start_jax(stages[name])
    result = measure(
        workload.read(stages[name]), steps=STEPS.value, warmup=WARMUP.value, matrix=MATRIX.value
    )
    cli.say(result.text())
    if JSON.value:
        files.write_json(JSON.value, result.as_dict(), indent=2)


def measure(work: Workload, *, steps: int, warmup: int, matrix: int | None = None) -> Result:
    """Compiles the step of a stage, runs it, and measures a matrix product in between.

    Args:
      work: the stage.
      steps: that are timed, each to its end.
      warmup: steps before them, at least 1.
      matrix: side of the matrix product.
    """
    c = Settings(work.config)
    mesh = c.mesh.call(sharding.make_mesh)
    sharding.check_batch(work.durations.batch_size, mesh)
    made = program.build(c, mesh, work.durations, program.batch_spec(c.input))
    began = time.monotonic()
    with waiting(f"compiling {work.name}"):
        compiled = made.compile()
    compile_seconds = time.monotonic() - began
    logging.info("compiled in %.1f s", compile_seconds)
    state, batch = made.spec.init(c.seed), random_batch(made)

    def step() -> Any:
        nonlocal state
        state, values = compiled(state, batch)
        return values

    rate = matrix_rate(mesh, work.config.model.dtype, matrix)  # before and after the steps
    with waiting(f"{warmup} + {steps} steps"):
        seconds = timed(step, steps=steps, warmup=warmup)
    rate = max(rate, matrix_rate(mesh, work.config.model.dtype, matrix))
    peak, source = peak_memory(compiled)
    return Result(
        stage=f"{work.name} of {work.config.model.size}",
        devices=f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        batch=work.durations.batch_size,
        dtype=work.config.model.dtype,
        steps=steps,
        step_seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        model_flops=work.step_flops,
        matrix_rate=rate,
        peak_memory=peak,
        memory_source=source,
        compile_seconds=compile_seconds,
    )


def random_batch(made: program.Program) -> dict[str, jax.Array]:
    """A batch of noise of the program's shapes, made on the devices that hold it."""
    split = sharding.batch_sharding(made.mesh)
    vocab = made.model.txt.config.vocab_size

    def one(name: str, spec: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
        if jnp.issubdtype(spec.dtype, jnp.floating):
            return jax.random.uniform(key, spec.shape, spec.dtype)
        highest = 256 if name == "image" else vocab
        return jax.random.randint(key, spec.shape, 0, highest, jnp.int32).astype(spec.dtype)

    def make() -> dict[str, jax.Array]:
        keys = jax.random.split(jax.random.key(0), len(made.spec.batch))
        specs = made.spec.batch.items()
        return {name: one(name, spec, key) for (name, spec), key in zip(specs, keys, strict=True)}

    return jax.jit(make, out_shardings=dict.fromkeys(made.spec.batch, split))()


def matrix_rate(mesh: Mesh, dtype: str, side: int | None = None, repeats: int = 5) -> float:
    """FLOP/s of all devices of a mesh together, each on square matrices of its own.

    Args:
      dtype: of the factors, "bfloat16" or "float32".
      side: of the matrices.
      repeats: the fastest counts.
    """
    platform = mesh.devices.flat[0].platform
    side = side or (1024 if platform == "cpu" else 8192)
    products = 4 if platform == "cpu" else 20  # in one call, so that starting it costs nothing
    each = NamedSharding(mesh, P(mesh.axis_names))

    def chain(x_NSS: jax.Array) -> jax.Array:
        def product(_: Any, y_NSS: jax.Array) -> jax.Array:
            return jnp.einsum("nab,nbc->nac", y_NSS, x_NSS) * (1 / side)

        return jax.lax.fori_loop(0, products, product, x_NSS)

    draw = jax.jit(
        lambda: jax.random.normal(jax.random.key(0), (mesh.size, side, side), jnp.dtype(dtype)),
        out_shardings=each,
    )
    x_NSS = draw()
    run = jax.jit(chain, in_shardings=each, out_shardings=each)
    fastest = min(timed(lambda: run(x_NSS), steps=repeats, warmup=1))
    return mesh.size * products * 2.0 * side**3 / fastest


def peak_memory(compiled: jax.stages.Compiled) -> tuple[float, str]:
    """(bytes of a device, where that comes from)."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"]), "measured"
    planned: Any = compiled.memory_analysis()
    total = planned.argument_size_in_bytes + planned.temp_size_in_bytes
    total += planned.output_size_in_bytes - planned.alias_size_in_bytes
    return float(total), "XLA's plan of the step"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


if __name__ == "__main__":
    cli.run(main)
