"""Input throughput: pictures per second and core, and the chips that they feed."""

import statistics
import time
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.benchmark import clock
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline
from clipa_jax.errors import ConfigError
from clipa_jax.planning import chips, published, workload
from clipa_jax.runtime.format import significant

EFFICIENCY = published.EFFICIENCY
_BATCH, _BATCHES = 32, 8  # of a round of the measurement
_WINDOW = 1_024


def images_per_core(config: ConfigDict, seconds: float) -> float:
    """Images/s that one core prepares of a stage's data, reading included.

    Measured for some seconds as processor time of all threads (`benchmark.clock`), which other
    processes on the machine disturb little.
    """
    data = pipeline.train_data(input_section(config, batch_size=_BATCH), seed=config.seed)
    stream = clock.Stream("pipeline", data.start())
    stream.run(1, _BATCH)  # traces the graphs and starts the threads
    until = time.monotonic() + seconds
    while len(stream.cpu) < 2 or time.monotonic() < until:
        stream.run(_BATCHES, _BATCH)
    return 1 / statistics.fmean(stream.cpu[1:])


def input_section(config: ConfigDict, **changes: Any) -> Settings:
    """The `input` section of a stage for inspection: no cache, a short shuffle, no skip limit.

    `changes` are further keys.
    """
    changes = {"cache": "none", "shuffle_window": _WINDOW, "max_skip_percent": 100.0} | changes
    return Settings(config.input.to_dict() | changes, "config.input")


def required_samples_per_second(config: ConfigDict, chip: str, efficiency: float) -> float:
    """Samples/s that a chip trains on, from the model's own arithmetic.

    `chip` is a name from `planning.chips`, `efficiency` the model FLOPs over its peak. Raises
    `ConfigError` for an unknown chip, or an efficiency outside of (0, 1].
    """
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency {efficiency} must be above 0 and at most 1")
    return chips.chip(chip).peak * efficiency / workload.read(config).forward.training


def summary(rate: float, cores: int, required: float, chip: str) -> dict[str, Any]:
    """The throughput as JSON, from images/s of one core of the `cores` of this machine.

    `required` are the samples/s of one chip, `chip` its name and the source of that number.
    """
    return {
        "images_per_second_per_core": round(rate, 1),
        "cores": cores,
        "chip": chip,
        "samples_per_second_per_chip": round(required, 1),
        "cores_per_chip": round(required / rate, 2),
        "chips_fed_by_this_machine": round(rate * cores / required, 2),
    }


def text(report: dict[str, Any]) -> str:
    """The summary as a sentence."""
    names = ("images_per_second_per_core", "samples_per_second_per_chip", "cores_per_chip")
    rate, required, per_chip = (significant(report[name]) for name in names)
    return (
        f"pipeline: {rate} images/s a core. A chip trains on {required} samples/s "
        f"({report['chip']}) and needs {per_chip} cores; this machine's {report['cores']} cores "
        f"feed {significant(report['chips_fed_by_this_machine'])} chips"
    )
