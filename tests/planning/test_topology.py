"""Slices by name, and the training step as the TPU compiler sees it; needs libtpu, no TPU."""

import pytest

from clipa_jax.errors import ConfigError
from clipa_jax.planning import chips, compiled, topology, workload
from tests.helpers import tiny

needs_libtpu = pytest.mark.skipif(not topology.available(), reason="libtpu is not installed")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5f:2x2", "unknown TPU in --topology=v5f:2x2: 'v5f'; nearest: v5"),
        ("v5e", "--topology=v5e: expected 2 sizes, such as v5e:4x4"),
        ("v5e:2x2x1", "expected 2 sizes"),
        ("v4:2x2", "expected 3 sizes, such as v4:4x4x4"),
        ("v5e:0x2", "expected 2 sizes"),
    ],
)
def test_an_invalid_topology_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        topology.parse(name)


def test_without_libtpu_the_error_names_the_alternative(monkeypatch):
    monkeypatch.setattr(topology, "available", lambda: False)
    with pytest.raises(ConfigError, match="requirements-tpu.txt.*--device=v5e --chips=N"):
        topology.find("v5e:2x2")


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("v4:2x2x1", 4, "TPU v4"),
        ("v5e:2x2", 4, "TPU v5 lite"),
        ("v5e:16x16", 256, "TPU v5 lite"),
        ("v5p:2x2x1", 4, "TPU v5"),
        ("v6e:2x4", 8, "TPU v6 lite"),
    ],
)
def test_every_generation_is_described_chip_by_chip(name, number, kind):
    tpu_slice = topology.find(name)
    assert len(tpu_slice.devices) == number
    assert {device.device_kind for device in tpu_slice.devices} == {kind}
    # The compiler keeps a little of the memory for itself.
    limit = compiled.memory_limit(tpu_slice)
    assert 0.95 * tpu_slice.chip.memory < limit <= 1.01 * tpu_slice.chip.memory


@needs_libtpu
def test_an_impossible_slice_is_refused():
    with pytest.raises(ConfigError, match="libtpu refuses the topology v5e:3x5"):
        topology.find("v5e:3x5")


def small(**changes):
    config = tiny.config(
        model__layers="scanned",
        model__dtype="bfloat16",
        model__image__remat="full",
        model__image__depth=3,
        sharding__preset="fsdp",
        **changes,
    )
    return workload.read(config)


@needs_libtpu
def test_the_training_step_compiles_for_a_slice():
    work = small()
    tpu_slice = topology.find("v5e:2x2")
    result = compiled.compile_step(work, tpu_slice)
    assert result.fits and result.memory.excess < 0
    # Arrays lie in tiles, so small ones take more than their numbers.
    assert compiled.trace(work, tpu_slice).arguments < result.memory.arguments < 1e6
    # Beyond the model's own: the layers of the image tower again, without their last product,
    # and the logits once more; less: no gradient of the pixels.
    forward = work.forward
    again = forward.image - 2 * 16 * 48 * 16 - 2 * 16 * 8 - 3 * 2 * 17 * 16 * 32
    expected = forward.training + again + forward.loss - 2 * 16 * 48 * 16
    assert result.flops * 4 == pytest.approx(16 * expected, rel=0.01)
    # The parameters are split: to use them a chip receives what the others have.
    assert sum(result.counts.collectives.values()) > 2 * work.num_params * 3 / 4


@needs_libtpu
def test_a_batch_that_does_not_fit_is_reported_in_bytes():
    work = small(input__batch_size=2**20, input__res=64)
    result = compiled.compile_step(work, topology.find("v5e:2x2"))
    assert not result.fits and result.counts is None
    assert result.memory.excess > 0 and result.memory.limit == 15.75 * 2**30
    # The pictures alone are 3 GiB a chip.
    assert result.memory.arguments > 2**18 * 64 * 64 * 3


def test_both_wordings_of_the_compilers_refusal_are_parsed():
    new = "Ran out: required for HLO temporaries (92.69G) exceeds available HBM (15.75G). HLO"
    old = "Ran out of memory in memory space hbm. Used 27.3G of 15.75G hbm. Exceeded by 11.55G."
    assert compiled.parse_refusal(new) == (92.69 * 2**30, 15.75 * 2**30)
    assert compiled.parse_refusal(old) == (27.3 * 2**30, 15.75 * 2**30)
    assert compiled.parse_refusal("something else") is None


def test_every_tpu_of_the_table_has_a_topology_and_a_page_of_numbers():
    assert {chip.name for chip in chips.TPUS} == set(topology.GENERATIONS)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("TPU v5 lite", 197e12), ("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", None), ("cpu", None)],
)
def test_the_peak_of_a_device_as_jax_names_it(kind, peak):
    chip = chips.of_kind(kind)
    assert (chip and chip.peak) == peak
