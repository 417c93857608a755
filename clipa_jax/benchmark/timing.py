"""How long something takes on the devices."""

import time
from collections.abc import Callable
from typing import Any

import jax


def timed(step: Callable[[], Any], *, steps: int, warmup: int) -> list[float]:
    """Seconds of each step, from its start until its results are there."""
    seconds = []
    for index in range(warmup + steps):
        began = time.perf_counter()
        jax.block_until_ready(step())
        if index >= warmup:
            seconds.append(time.perf_counter() - began)
    return seconds
