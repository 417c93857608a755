"""Kernels in plans: their FLOPs by their own estimate, their seconds by schedule or bytes."""

import logging

import jax
import jax.numpy as jnp
import pytest

from clipa_jax.config.settings import Settings
from clipa_jax.models import packed
from clipa_jax.planning import chips, compiled, hlo, kernels, topology, traced, workload
from clipa_jax.training import program
from tests.helpers import tiny

V5E = chips.chip("v5e")
NAME = packed.NAME.format("forward", 37, 2, 64)
ROWS = 37 * 64
needs_libtpu = pytest.mark.skipif(not topology.available(), reason="libtpu is not installed")


def test_a_kernel_counts_as_often_as_its_loop_runs():
    text = f"""HloModule m

%body (t: (s32[], bf16[74,128])) -> (s32[], bf16[74,128]) {{
  %t = (s32[], bf16[74,128]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = bf16[74,128] get-tuple-element(%t), index=1
  %z = bf16[74,384] fusion(%x), kind=kOutput
  %{NAME}.remat.3 = bf16[74,128] custom-call(%z), custom_call_target="tpu_custom_call"
  ROOT %r = (s32[], bf16[74,128]) tuple(%i, %{NAME}.remat.3)
}}

%condition (t: (s32[], bf16[74,128])) -> pred[] {{
  ROOT %lt = pred[] constant(true)
}}

ENTRY %main (p: (s32[], bf16[74,128])) -> (s32[], bf16[74,128]) {{
  %p = (s32[], bf16[74,128]) parameter(0)
  ROOT %w = (s32[], bf16[74,128]) while(%p), condition=%condition, body=%body, backend_config={{"known_trip_count":{{"n":"24"}}}}
}}
"""  # noqa: E501
    assert hlo.count(text).kernels == {hlo.Kernel(NAME, 74, 74 * 512 * 2): 24}


def test_seconds_are_the_larger_of_schedule_and_bytes(monkeypatch):
    tiling = packed.tile(37, 2, 64)
    monkeypatch.setitem(kernels.SCHEDULES["v5e"], NAME, kernels.Schedule(step=40, window=500))
    bundles = ROWS // tiling.rows * (40 + 11 * 500)  # 32 images of a step in windows of 3
    for size in (0, 1e9):
        expected = 5 * max(bundles / V5E.clock, size / V5E.bandwidth)
        assert kernels.seconds({hlo.Kernel(NAME, ROWS, size): 5}, V5E) == pytest.approx(expected)


def test_a_kernel_without_a_schedule_is_named_and_takes_its_memory_traffic():
    counts = {hlo.Kernel("another_kernel", 64, 819e9): 2.0}
    assert kernels.seconds(counts, V5E) == pytest.approx(2.0)
    assert kernels.without_schedule(counts, V5E) == ["another_kernel"]


def test_the_table_has_the_image_tower_of_h_14_at_every_stage():
    names = [packed.NAME.format("backward", tokens, 16, 80) for tokens in (37, 180, 346)]
    counts = dict.fromkeys((hlo.Kernel(name, 1, 0) for name in names), 1.0)
    assert kernels.without_schedule(counts, V5E) == []


def test_flops_of_the_packed_kernels_are_those_of_attention():
    tiling = packed.tile(37, 2, 64)
    z, bias = jnp.zeros((ROWS, 3 * 128), jnp.bfloat16), jnp.zeros(3 * 128)

    def total(z, bias):
        return packed.attention(z, bias, tiling).astype(jnp.float32).sum()

    product = 2 * ROWS * 37 * 128
    step = jax.jit(jax.grad(total)).trace(z, bias)
    assert traced.flops(step) == 5 * product  # the forward pass is not needed
    step = jax.jit(jax.value_and_grad(total)).trace(z, bias)
    assert traced.flops(step) == (2 + 5) * product


def test_a_layer_that_keeps_the_kernels_arrays_runs_neither_kernel_nor_projection_again():
    def step_flops(remat):
        c = tiny.config(
            model__layers="scanned",
            model__dtype="bfloat16",
            model__attention="packed",
            input__text_len=8,
        )
        c.model.text.update(width=128, num_heads=2)
        c.model.image.update(width=128, num_heads=2, depth=2, remat=remat)
        work, settings = workload.read(c), Settings(c)
        inputs = program.batch_spec(settings.input)
        built = program.build(settings, tiny.mesh(), work.durations, inputs)
        return traced.flops(built.trace())

    rows = 2 * 16 * 17  # layers, samples, tokens
    kernel, projection = 2 * 2 * rows * 17 * 128, 3 * 2 * rows * 128**2
    assert step_flops("full") - step_flops("qkv+attention") == kernel + projection


@needs_libtpu
def test_a_step_with_packed_attention_compiles_for_a_slice(caplog):
    c = tiny.config(
        model__layers="scanned",
        model__dtype="bfloat16",
        model__attention="packed",
        sharding__preset="fsdp",
        input__text_len=8,
    )
    c.model.image.update(width=128, num_heads=2, depth=3, remat="full")
    c.model.text.update(width=128, num_heads=2, depth=2, remat="none")
    with caplog.at_level(logging.WARNING):
        result = compiled.compile_step(workload.read(c), topology.find("v5e:2x2"))
    runs = {kernel.name: times for kernel, times in result.counts.kernels.items()}
    names = [
        packed.NAME.format(*name)
        for name in (
            ("forward", 17, 2, 64),
            ("backward", 17, 2, 64),
            ("forward", 8, 2, 64),
            ("backward", 8, 2, 64),
        )
    ]
    assert runs == dict(zip(names, (6, 3, 2, 2), strict=True))
    assert all(f"the kernel {name} on v5e is not recorded" in caplog.text for name in names)
    # What the kernels leave of the traced products is read from the text.
    samples = c.input.batch_size // 4
    products = {"forward": 2, "backward": 5}
    in_kernels = sum(
        times * products[kind] * 2 * samples * tokens**2 * 128
        for (kind, tokens), times in zip(
            (("forward", 17), ("backward", 17), ("forward", 8), ("backward", 8)),
            runs.values(),
            strict=True,
        )
    )
    in_text = sum(operation.times * operation.flops for operation in result.operations)
    # XLA writes products as small as some of these without a product.
    assert 0.8 <= in_text / (result.flops - in_kernels) <= 1.0001
