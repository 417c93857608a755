"""Checks of machines, storage and data before a long run, in a few minutes.

    python tools/verify.py --config=configs/model_h/schedule.py --workdir=gs://BUCKET/W

Each check is a function of `Setup` that returns a sentence and raises `UserError` for a fault. They
use the trainer's own stage, step, checkpoints and pipeline.
"""

import contextlib
import dataclasses
import math
import os
import re
import statistics
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec
import jax
from ml_collections import ConfigDict

import clipa_jax
from clipa_jax import models
from clipa_jax.benchmark import device
from clipa_jax.config import schedules
from clipa_jax.data import to_device
from clipa_jax.errors import CheckpointError, ConfigError, DataError, UserError
from clipa_jax.planning import analytic, capacity, chips, published, workload
from clipa_jax.runtime import cli, distributed, fingerprint, storage
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.format import memory, percent, table
from clipa_jax.runtime.progress import waiting
from clipa_jax.training import attention, derive, stage, workdir
from clipa_jax.weights import open_weights

LOWEST_RATE = 0.5  # of a chip's published peak, for a plain matrix product
SLOWEST_PEER = 0.8  # rate of the slowest process over the fastest
SLOWEST_STEP = 2.0  # times the plan's
BATCHES = 12  # of the pipeline that are timed
METADATA = "http://{}/computeMetadata/v1/instance/zone"
IMPLEMENTATIONS = {"tpu": ("packed",), "gpu": ("cudnn",), "cpu": ()}


@dataclass(frozen=True)
class Row:
    """The result of a check: passed, failed or warning."""

    check: str
    result: str
    detail: str


class Warned(Exception):
    """A finding that does not stop a run."""


@dataclass
class Setup:
    """The stage under test, and what earlier checks measured."""

    run: stage.Stage
    root: str
    step_seconds: float | None = None

    @property
    def platform(self) -> str:
        return self.run.program.mesh.devices.flat[0].platform

    @property
    def chip(self) -> chips.Chip | None:
        """The chip of the devices, where it is known."""
        return chips.of_kind(self.run.program.mesh.devices.flat[0].device_kind)


def setup(config: ConfigDict, root: str) -> Setup:
    """The first stage of a config, from scratch and without evaluation, in the folder `root`."""
    cli.start_jax(schedules.split(config)[0])
    first = derive.resolve(config, open_weights)[0].copy_and_resolve_references()
    first.name, first.after, first.init = "verify", "", "scratch"
    first.eval_percent, first.eval_examples, first.eval_steps = None, None, 0
    return Setup(stage.prepare(capacity.settle_here(first), Path(root), {}), root)


def verify(given: Setup) -> list[Row]:
    """The rows of all checks, in order; all processes get the same results."""
    rows = []
    for check in CHECKS:
        with waiting(check.__name__):
            row = _row(check, given)
        failed = distributed.from_all(int(row.result == "failed"))
        if max(failed) and row.result != "failed":
            row = Row(row.check, "failed", f"in process {failed.index(1)}, whose log says why")
        rows.append(row)
    return rows


def _row(check: Callable[[Setup], str], given: Setup) -> Row:
    name = check.__name__.replace("_", " ")
    try:
        return Row(name, "passed", check(given))
    except Warned as warned:
        return Row(name, "warning", str(warned))
    except (UserError, OSError, jax.errors.JaxRuntimeError) as error:
        return Row(name, "failed", f"{error!s:.500}")


def text(rows: list[Row]) -> str:
    """The rows as a table."""
    return table([("check", "result", "")] + [dataclasses.astuple(row) for row in rows])


def processes(given: Setup) -> str:
    """All processes run the same code with the same config on the same kind of device."""
    content = {
        "config": workdir.to_json(given.run.config),
        "data": given.run.data.fingerprint,
        "version": clipa_jax.__version__,
        "jax": jax.__version__,
        "device": jax.local_devices()[0].device_kind,
    }
    for name, value in content.items():
        values = distributed.from_all(value)
        other = next((i for i, theirs in enumerate(values) if theirs != values[0]), None)
        if other is not None:
            raise ConfigError(f"process {other} has another {name} than process 0")
    return f"{jax.process_count()} with the same config, data and versions"


def devices(given: Setup) -> str:
    """Every device multiplies matrices near its published peak, and none is far behind."""
    mesh, dtype = given.run.program.mesh, given.run.config.model.dtype
    rate = device.matrix_rate(mesh, dtype) / mesh.size
    rates = distributed.from_all(rate)
    sentence = f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {rate / 1e12:.3g} TFLOP/s each"
    if min(rates) < SLOWEST_PEER * max(rates):
        slowest = rates.index(min(rates))
        raise ConfigError(f"{sentence}; process {slowest} has {min(rates) / 1e12:.3g}: replace it")
    chip = given.chip
    if chip is None:
        return f"{sentence}; the chip's peak is unknown"
    share = rate / chip.peak
    if dtype == "bfloat16" and share < LOWEST_RATE:
        raise ConfigError(f"{sentence}, {percent(share)} of the peak; is the chip shared?")
    return f"{sentence}, {percent(share)} of the bfloat16 peak"


def memory_of_the_plan(given: Setup) -> str:
    """State and activations fit a device, by the plan."""
    run = given.run
    needed, limit = capacity.check(run.name, run.config, run.program)
    return f"about {memory(needed)} of {memory(limit)} a device"


def attention_implementations(given: Setup) -> str:
    """The implementations for these devices agree with XLA's in values and gradients."""
    spec, program = given.run.program.spec, given.run.program
    names = dict.fromkeys((spec.model.img.config.attention, *IMPLEMENTATIONS[given.platform]))
    params = spec.init(0).params
    for name in names:
        model = models.with_options(spec.model, attention=name)
        changed = dataclasses.replace(spec, model=model)
        attention.agreement(changed, program.mesh, params, program.image_tokens)
    return f"{', '.join(names)} agree with xla"


def checkpoint(given: Setup) -> str:
    """A checkpoint written to the workdir is restored with the same numbers."""
    run, spec = given.run, given.run.program.spec
    state, folder = spec.init(0), str(run.folder)
    began = time.monotonic()
    try:
        with contextlib.closing(run.open_checkpoints(workdir=folder)) as checkpoints:
            checkpoints.check_room(spec)
            checkpoints.save(state, {})
        saved = time.monotonic()
        with contextlib.closing(run.open_checkpoints(workdir=folder)) as checkpoints:
            start = checkpoints.restore_last(spec)
        read = time.monotonic()
    finally:
        if distributed.first() and storage.exists(folder):
            storage.remove(folder, folder=True)
    if start is None or fingerprint.of(start.state.params) != fingerprint.of(state.params):
        raise CheckpointError(f"{folder}: the numbers read differ from those saved")
    size = memory(spec.bytes_per_device() * run.program.mesh.size)
    return f"up to {size}, saved in {saved - began:.1f} s, read in {read - saved:.1f} s"


def step(given: Setup) -> str:
    """The step compiles, its loss is finite, and it is about as fast as planned."""
    run = given.run
    work = workload.of_program(run.name, run.config, run.program)
    compiled, state = run.program.compile(), run.program.spec.init(0)
    batch, losses = device.random_batch(run.program), []

    def once() -> Any:
        nonlocal state
        state, values = compiled(state, batch)
        losses.append(values["loss"])
        return values

    given.step_seconds = statistics.median(device.timed(once, steps=5, warmup=2))
    if not all(math.isfinite(float(loss)) for loss in losses):
        raise ConfigError(f"losses of random batches are {[float(loss) for loss in losses]}")
    sentence = f"{given.step_seconds:.3g} s for {work.durations.batch_size:,} samples"
    chip = given.chip
    if chip is None:
        return sentence
    size, efficiency = run.program.mesh.size, published.EFFICIENCY
    plan = analytic.estimate(work, chip, size, efficiency).step_seconds
    sentence += f"; planned {plan:.3g} s at {percent(efficiency)} of the peak"
    if given.step_seconds > SLOWEST_STEP * plan:
        raise ConfigError(sentence)
    return sentence


def input_rate(given: Setup) -> str:
    """The pipeline makes batches at least as fast as steps take them."""
    run = given.run
    if given.step_seconds is None:
        raise Warned("not measured: the step failed")
    with to_device.Prefetch(run.data.start(), run.encoders.batch_sharding) as feed:
        for _ in range(3):  # start-up and prefetched batches
            next(feed)
        began = time.monotonic()
        for _ in range(BATCHES):
            next(feed)
        seconds = (time.monotonic() - began) / BATCHES
    rate, needed = (run.durations.batch_size / s for s in (seconds, given.step_seconds))
    sentence = f"{rate:,.0f} samples/s; the steps take {needed:,.0f}"
    if rate < needed:
        raise DataError(
            f"{sentence}: use smaller pictures or more host cores (docs/performance.md)"
        )
    return sentence


def region(given: Setup) -> str:
    """Buckets of data and workdir are in the machine's region."""
    source = given.run.config.input.source
    buckets = set(re.findall(r"gs://([^/]+)", f"{given.root} {source}"))
    if not buckets:
        return "no buckets"
    zone = _zone()
    if zone is None:
        return "not on Google Cloud"
    wrong = {name: place for name in buckets if not _near(place := location(name), zone)}
    if wrong:
        places = ", ".join(f"gs://{name} in {place}" for name, place in wrong.items())
        raise Warned(f"{places}, the machine in {zone}: slower, and traffic costs money")
    return f"all in {zone}"


def location(bucket: str) -> str:
    """The location of a bucket, such as US-CENTRAL1 or EU."""
    system: Any = fsspec.filesystem("gs")
    return system.call("GET", "b/{}", bucket, json_out=True)["location"]


def _near(place: str, zone: str) -> bool:
    region, place = zone.rpartition("-")[0], place.lower()
    continent = {"eu": "europe"}.get(place, place)
    return region == place or region.partition("-")[0] == continent


def _zone() -> str | None:
    """The zone of this machine by the metadata server of Google Cloud, None elsewhere."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    request = urllib.request.Request(METADATA.format(host), headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310, http by design
            return answer.read().decode().rpartition("/")[2]
    except OSError:
        return None


CHECKS = (
    processes,
    devices,
    memory_of_the_plan,
    attention_implementations,
    checkpoint,
    step,
    input_rate,
    region,
)
