"""Whether the pipeline keeps up: images/s that a core prepares, and the chips that it feeds."""

import statistics
import time
from typing import Any

from ml_collections import ConfigDict

from clipa_jax.benchmark import clock
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline
from clipa_jax.errors import ConfigError
from clipa_jax.planning import chips, published, workload

EFFICIENCY = published.EFFICIENCY  # what CLIPA's published hours come to
_BATCH, _BATCHES = 32, 8  # of a round of the measurement
_WINDOW = 1_024


def images_per_core(config: ConfigDict, seconds: float) -> float:
    """Images/s that one core prepares of a stage's data, reading included.

    Processor time over all threads (`benchmark.clock`), so that other work on the machine
    disturbs it little.

    Args:
      config: of the stage.
      seconds: how long to measure.
    """
    data = pipeline.train(section(config, batch_size=_BATCH), seed=config.seed)
    stream = clock.Stream("pipeline", data.start())
    stream.run(1, _BATCH)  # traces the graphs and starts the threads
    until = time.monotonic() + seconds
    while len(stream.cpu) < 2 or time.monotonic() < until:
        stream.run(_BATCHES, _BATCH)
    return 1 / statistics.fmean(stream.cpu[1:])


def section(config: ConfigDict, **changes: Any) -> Settings:
    """The `input` section of a stage for a look at its data: nothing is kept in memory, bad samples
    are passed over, few samples are shuffled together.

    Args:
      config: of the stage.
      **changes: further keys.
    """
    values = config.input.to_dict() | {
        "cache": "none",
        "shuffle_window": _WINDOW,
        "max_skip_percent": 100.0,
    }
    return Settings(values | changes, "config.input")


def chip_appetite(config: ConfigDict, chip: str, efficiency: float) -> float:
    """Samples/s that a chip trains on, by the model's own arithmetic.

    Args:
      config: of the stage.
      chip: a name from `planning.chips`.
      efficiency: model FLOPs over the chip's peak.

    Raises:
      ConfigError: an unknown chip, or an efficiency that is none.
    """
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency {efficiency} must be above 0 and at most 1")
    return chips.chip(chip).peak * efficiency / workload.read(config).forward.training


def summary(rate: float, cores: int, appetite: float, what: str) -> dict[str, Any]:
    """What a rate is worth, as JSON has it.

    Args:
      rate: images/s of one core.
      cores: of this machine.
      appetite: samples/s of one chip.
      what: the chip, and where its appetite is known from.
    """
    return {
        "images_per_second_per_core": round(rate, 1),
        "cores": cores,
        "chip": what,
        "samples_per_second_per_chip": round(appetite, 1),
        "cores_per_chip": round(appetite / rate, 2),
        "chips_fed_by_this_machine": round(rate * cores / appetite, 2),
    }


def text(report: dict[str, Any]) -> str:
    """A summary for people."""
    rate, appetite, per_chip, fed = (
        _short(report[name])
        for name in (
            "images_per_second_per_core",
            "samples_per_second_per_chip",
            "cores_per_chip",
            "chips_fed_by_this_machine",
        )
    )
    return (
        f"pipeline: {rate} images/s a core. A chip takes {appetite} samples/s ({report['chip']}), "
        f"the work of {per_chip} cores; this machine's {report['cores']} cores feed {fed} chips"
    )


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
