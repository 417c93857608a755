"""Speed of a training step on random data, without an input pipeline.

    python tools/benchmark.py step --config=configs/model_h/pretrain.py --config.microbatch=256
    python tools/benchmark.py step --config=configs/model_s/pretrain.py --peer=open_clip

Any config on any mesh. The step is the trainer's own program. Its speed is compared with a plain
matrix product of the config's dtype on the same devices in the same run, and with the steps of
other code for the same model, batch and device, in turns.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from absl import flags, logging

from clipa_jax import sharding
from clipa_jax.benchmark import peers
from clipa_jax.benchmark.device import in_turns, matrix_rate, peak_memory, random_batch
from clipa_jax.config import schedules
from clipa_jax.config.settings import Settings
from clipa_jax.errors import ConfigError
from clipa_jax.planning import capacity, workload
from clipa_jax.planning.workload import Workload
from clipa_jax.runtime import cli, files
from clipa_jax.runtime.format import memory
from clipa_jax.runtime.progress import waiting
from clipa_jax.training import program


@dataclass(frozen=True)
class Peer:
    """The steps of other code, measured in turns with ours."""

    step_seconds: float  # the median
    ratio: float  # the median of its seconds over ours, turn by turn: above 1, ours is faster
    lowest: float
    highest: float

    @classmethod
    def of(cls, theirs: list[float], ours: list[float]) -> "Peer":
        """From the seconds of all steps."""
        ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
        return cls(statistics.median(theirs), statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Result:
    """A measurement in seconds, bytes and FLOPs."""

    stage: str  # name and model
    devices: str  # number and kind
    batch: int  # global
    dtype: str
    steps: int
    step_seconds: float  # the median
    fastest: float
    slowest: float
    model_flops: float  # of one step; nothing recomputed counts
    matrix_rate: float  # FLOP/s of all devices together on a plain product of `dtype`
    peak_memory: float  # of a device
    memory_source: str  # measured, or XLA's plan for the step
    compile_seconds: float
    peers: dict[str, Peer] = field(default_factory=dict)  # by name

    @property
    def samples_per_second(self) -> float:
        return self.batch / self.step_seconds

    @property
    def mfu(self) -> float:
        """The model's own FLOPs per second over the measured matrix rate."""
        return self.model_flops / self.step_seconds / self.matrix_rate

    def text(self) -> str:
        """The result as text."""
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
            ("peak memory", f"{memory(self.peak_memory)} a device ({self.memory_source})"),
            ("compiled in", f"{self.compile_seconds:,.1f} s"),
            *(
                (
                    name,
                    f"{self.batch / peer.step_seconds:,.1f} samples/s; ours is {peer.ratio:.2f} "
                    f"times as fast (turns: {peer.lowest:.2f} to {peer.highest:.2f})",
                )
                for name, peer in self.peers.items()
            ),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        return asdict(self) | {"samples_per_second": self.samples_per_second, "mfu": self.mfu}


def main(argv: list[str]) -> None:
    """Measures the step of the config."""
    del argv
    given = flags.FLAGS
    stages = {stage.name: stage for stage in schedules.split(given.config)}
    name = given.stage or next(iter(stages))
    if name not in stages:
        raise ConfigError(f"--stage={name}: the config has {', '.join(stages)}")
    cli.start_jax(stages[name])
    work = workload.read(capacity.settle_here(stages[name]))
    result = measure(
        work,
        steps=given.steps,
        warmup=given.warmup,
        matrix=given.matrix,
        others={name: peers.start(name, work.config) for name in given.peer},
    )
    cli.say(result.text())
    if given.json:
        files.write_json(given.json, result.as_dict(), indent=2)


def measure(
    work: Workload,
    *,
    steps: int,
    warmup: int,
    matrix: int | None = None,
    others: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
) -> Result:
    """Compiles and times `steps` steps after `warmup` ones, and a matrix product before and after.

    `matrix` is the side of the product; `others` are steps of peers, which take turns with ours.
    """
    c = Settings(work.config)
    mesh = c.mesh.call(sharding.make_mesh)
    sharding.check_batch(work.durations.batch_size, mesh)
    training = program.build(c, mesh, work.durations, program.batch_spec(c.input))
    began = time.monotonic()
    with waiting(f"compiling {work.name}"):
        compiled = training.compile()
    compile_seconds = time.monotonic() - began
    logging.info("compiled in %.1f s", compile_seconds)
    state, batch = training.spec.init(c.seed), random_batch(training)

    def step() -> Any:
        nonlocal state
        state, values = compiled(state, batch)
        return values

    rate = matrix_rate(mesh, work.config.model.dtype, matrix)  # before and after the steps
    with waiting(f"{warmup} + {steps} steps"):
        turns = in_turns({"": step, **others}, steps=steps, warmup=warmup)
    seconds = turns.pop("")
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
        peers={name: Peer.of(theirs, seconds) for name, theirs in turns.items()},
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


def start() -> None:
    """Runs the command line."""
    cli.define_config()
    flags.DEFINE_string("stage", None, "Which stage of a schedule; its first by default.")
    flags.DEFINE_integer("steps", 20, "Steps that are timed.", lower_bound=1)
    flags.DEFINE_integer("warmup", 3, "Steps before them.", lower_bound=1)
    side = "Side of the matrix product; 8192 on accelerators, 1024 on a CPU."
    flags.DEFINE_integer("matrix", None, side)
    text = f"Compare with {' or '.join(peers.PEERS)}: a model of the same sizes in PyTorch, eager "
    flags.DEFINE_list("peer", [], text + "or by torch.compile; needs requirements-torch.txt.")
    flags.DEFINE_string("json", None, "Write the result to this file too.")
    cli.run(main)
