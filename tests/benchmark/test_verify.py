"""The checks before a long run find planted faults; the sound stage passes all of them."""

import dataclasses
import functools
import math
import re
import time
from http import HTTPStatus

import jax
import pytest

from clipa_jax import sharding, trees
from clipa_jax.benchmark import device, verify
from clipa_jax.config import recipes
from clipa_jax.planning import capacity, chips
from clipa_jax.runtime import distributed
from clipa_jax.runtime.files import Path
from clipa_jax.training import attention, checkpoint, program, workdir
from tests.helpers import bucket as buckets
from tests.helpers import tiny

RATE = 1e10  # FLOP/s
CHIP = chips.Chip("toy", peak=1e30, memory=1e12, bandwidth=1e12, interconnect=1e12)


def small():
    config = recipes.load("demo/pretrain")
    config.model.size = "nano/16"
    for tower in (config.model.image, config.model.text):
        tower.depth = 1
    config.input.batch_size = 64
    config.cpu_devices = None
    return config


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A sound stage. What its checks compute at length is computed once: the compiled step and the
    agreement of its attention."""
    agreement, known = attention.agreement, {}

    def agreed(spec, *rest):
        name = spec.model.img.config.attention
        known[name] = known.get(name) or agreement(spec, *rest)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify.cli, "start_jax", lambda config: None)
        one = tiny.mesh()
        patch.setattr(sharding, "make_mesh", lambda replica, fsdp, tensor: one)
        setup = verify.setup(small(), str(tmp_path_factory.mktemp("workdir")))
        compiled = functools.cache(setup.run.program.compile)
        patch.setattr(program.Program, "compile", lambda self: compiled())
        patch.setattr(attention, "agreement", agreed)
        patch.setattr(device, "matrix_rate", lambda mesh, dtype: RATE)
        patch.setattr(device, "timed", lambda once, steps, warmup: [once() and 10.0])
        patch.setattr(verify, "BATCHES", 1)
        yield setup


@pytest.fixture(scope="module")
def server():
    with buckets.running() as bucket:
        yield bucket


def test_a_sound_stage_passes_all_checks_and_leaves_nothing(given):
    rows = verify.verify(dataclasses.replace(given))
    assert {row.result for row in rows} == {"passed"}, verify.text(rows)
    assert not given.run.folder.exists()


FAULTS = {}


def fault(check, sentence, result="failed"):
    """Registers a function that plants a fault, by its name; it may return another stage."""

    def register(plant):
        FAULTS[plant.__name__] = (plant, check, sentence, result)
        return plant

    return register


def says(patch, value, other):
    """Makes process 1 give something else in place of this value of process 0."""
    patch.setattr(distributed, "from_all", lambda mine: [mine, other if mine == value else mine])


@fault("processes", "process 1 has another config than")
def a_process_with_another_config(given, patch, server):
    config = workdir.to_json(given.run.config)
    says(patch, config, config | {"seed": config["seed"] + 1})


@fault("processes", "process 1 has another data than")
def a_process_with_other_data(given, patch, server):
    says(patch, given.run.data.fingerprint, "of other data")


@fault("processes", "process 1 has another jax than")
def a_process_with_another_version(given, patch, server):
    says(patch, jax.__version__, "0.0.1")


@fault("devices", "process 1 has .*: replace it")
def a_device_far_behind_the_others(given, patch, server):
    says(patch, RATE, RATE / 2)


@fault("devices", "of the peak; is the chip shared")
def a_device_far_below_its_peak(given, patch, server):
    patch.setattr(device, "matrix_rate", lambda mesh, dtype: 1e5)
    patch.setattr(chips, "of_kind", lambda kind: dataclasses.replace(CHIP, peak=1e6))
    config = given.run.config.copy_and_resolve_references()
    config.model.dtype = "bfloat16"
    return dataclasses.replace(given, run=dataclasses.replace(given.run, config=config))


@fault("memory of the plan", "needs about")
def too_little_memory(given, patch, server):
    patch.setattr(capacity, "device_memory", lambda device: 1e5)


@fault("attention implementations", "attention=cudnn differs from xla")
def an_attention_that_differs(given, patch, server):
    product = jax.nn.dot_product_attention

    def wrong(*arrays, implementation, **options):
        exact = product(*arrays, implementation=None, **options)
        return exact * 1.1 if implementation == "cudnn" else exact

    patch.setattr(jax.nn, "dot_product_attention", wrong)
    patch.setitem(verify.IMPLEMENTATIONS, "cpu", ("cudnn",))


@fault("checkpoint", "file")
def a_workdir_that_is_a_file(given, patch, server):
    folder = given.run.folder.parent / "file" / "verify"
    folder.parent.write_text("")
    return dataclasses.replace(given, run=dataclasses.replace(given.run, folder=folder))


@fault("checkpoint", "Forbidden")
def a_bucket_that_may_only_be_read(given, patch, server):
    def forbidden(method, path):
        return HTTPStatus.FORBIDDEN if method != "GET" else None

    patch.setattr(server, "fails", forbidden)
    folder = Path("gs://bucket/W/verify")
    return dataclasses.replace(given, run=dataclasses.replace(given.run, folder=folder))


@fault("checkpoint", "the numbers read differ")
def storage_that_changes_a_bit(given, patch, server):
    restore = checkpoint.Checkpoints.restore_last

    def changed(self, spec):
        start = restore(self, spec)
        flat = trees.flatten(start.state.params)
        name = next(iter(flat))
        params = trees.unflatten({**flat, name: flat[name].at[(0,) * flat[name].ndim].add(1e-3)})
        return dataclasses.replace(start, state=start.state.replace(params=params))

    patch.setattr(checkpoint.Checkpoints, "restore_last", changed)


@fault("step", "planned")
def a_step_far_slower_than_planned(given, patch, server):
    patch.setattr(chips, "of_kind", lambda kind: CHIP)


@fault("step", "losses of random batches are .nan")
def a_loss_that_is_not_finite(given, patch, server):
    update = given.run.program.compile()

    def spoilt(state, batch):
        state, values = update(state, batch)
        return state, values | {"loss": values["loss"] * math.nan}

    patch.setattr(program.Program, "compile", lambda self: spoilt)


@fault("step", "RESOURCE_EXHAUSTED")
def a_step_that_does_not_fit(given, patch, server):
    def exhausted(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    patch.setattr(program.Program, "compile", exhausted)


@fault("input rate", "samples/s; the steps take 64,000")
def an_input_slower_than_the_steps(given, patch, server):
    patch.setattr(device, "timed", lambda once, steps, warmup: [once() and 1e-3])
    batches = given.run.data.start

    def slowly():
        for batch in batches():
            time.sleep(0.02)
            yield batch

    patch.setattr(type(given.run.data), "start", lambda self: slowly())


@fault("region", "gs://mine in US-EAST1, the machine in us-west4-a", "warning")
def a_bucket_in_another_region(given, patch, server):
    patch.setattr(verify, "location", lambda bucket: "US-EAST1")
    patch.setattr(verify, "_zone", lambda: "us-west4-a")
    return dataclasses.replace(given, root="gs://mine/W")


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_check_alone(given, server, name, monkeypatch):
    plant, check, sentence, result = FAULTS[name]
    changed = plant(given, monkeypatch, server) or given
    rows = verify.verify(dataclasses.replace(changed, step_seconds=None))
    failed = {row.check: row for row in rows if row.result == "failed" or row.check == check}
    assert list(failed) == [check] and failed[check].result == result, verify.text(rows)
    assert re.search(sentence, failed[check].detail)


@pytest.mark.parametrize(
    ("place", "zone", "near"),
    [
        ("US-CENTRAL1", "us-central1-a", True),
        ("US", "us-west4-a", True),
        ("EU", "europe-west4-b", True),
        ("EU", "us-west4-a", False),
        ("US-EAST1", "us-west4-a", False),
    ],
)
def test_a_bucket_in_another_region_is_a_warning(given, monkeypatch, place, zone, near):
    monkeypatch.setattr(verify, "location", lambda bucket: place)
    monkeypatch.setattr(verify, "_zone", lambda: zone)
    row = verify._row(verify.region, dataclasses.replace(given, root="gs://mine/W"))
    assert row.result == ("passed" if near else "warning")
    assert near or "gs://mine in" in row.detail
