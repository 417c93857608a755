"""Products, loops and collectives, read from the text of compiled modules."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax.planning import hlo


def module(body: str, more: str = "") -> str:
    return (
        f"HloModule m, is_scheduled=true\n\n{more}\nENTRY %main (p: f32[]) -> f32[] {{\n{body}\n}}"
    )


def test_a_loop_counts_as_often_as_it_runs():
    def scanned(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=7)[0]

    x, w = jnp.ones((3, 5)), jnp.ones((5, 5))
    compiled = jax.jit(scanned).lower(x, w).compile()
    assert hlo.count(compiled.as_text()).flops == 7 * 2 * 3 * 5 * 5
    # What makes this module necessary: XLA's own count takes the body once.
    assert compiled.cost_analysis()["flops"] < 7 * 2 * 3 * 5 * 5


LOOP = """
%body (t: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %t = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %x = f32[8,8]{1,0:T(8,128)} get-tuple-element(%t), index=1
  %y = f32[8,8]{1,0:T(8,128)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %r = (s32[], f32[8,8]) tuple(%i, %y)
}

%condition (t: (s32[], f32[8,8])) -> pred[] {
  %n = s32[]{:T(128)} constant(24)
  %t = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}
"""


@pytest.mark.parametrize(("start", "times"), [(0, 24), (4, 20)])
def test_the_tpu_compiler_does_not_say_how_often_a_loop_runs(start, times):
    """It is read off the condition and the counter's first value."""
    text = module(
        f"""  %zero = s32[] constant({start})
  %p = f32[8,8] parameter(0)
  %first = (s32[], f32[8,8]) tuple(%zero, %p)
  %w = (s32[], f32[8,8]) while(%first), condition=%condition, body=%body""",
        LOOP,
    )
    assert hlo.count(text).flops == times * 2 * 8 * 8 * 8


def test_a_loop_that_takes_two_turns_at_once():
    body = LOOP.replace(
        "  ROOT %r = (s32[], f32[8,8]) tuple(%i, %y)",
        """  %two = s32[] constant(2)
  %j = s32[] add(%i, %two)
  ROOT %r = (s32[], f32[8,8]) tuple(%j, %y)""",
    )
    text = module(
        """  %zero = s32[] constant(0)
  %p = f32[8,8] parameter(0)
  %first = (s32[], f32[8,8]) tuple(%zero, %p)
  %w = (s32[], f32[8,8]) while(%first), condition=%condition, body=%body""",
        body,
    )
    assert hlo.count(text).flops == 12 * 2 * 8 * 8 * 8


def test_a_convolution_that_is_a_batch_of_products_counts_as_such():
    """Scores of 4 samples and 2 heads, 17 x 17, over 8 numbers: as the TPU compiler writes it."""
    text = module(
        """  %q = f32[4,17,2,8] parameter(0)
  %k = f32[4,17,2,8] parameter(1)
  ROOT %c = f32[4,2,17,17]{2,3,1,0:T(8,128)} convolution(%q, %k), """
        "window={size=4x2 stride=3x1 lhs_dilate=4x2}, dim_labels=0b1f_0o1i->01bf"
    )
    assert hlo.count(text).flops == 2 * 4 * 2 * 17 * 17 * 8


def test_a_convolution_with_a_padded_window():
    """An axis of 4 numbers under a window of 4 with 3 of padding: 16 of its 28 places count."""
    text = module(
        """  %x = bf16[4,4,48] parameter(0)
  %w = bf16[4,48,16] parameter(1)
  ROOT %c = bf16[4,7,16] convolution(%x, %w), window={size=4 pad=3_3 rhs_reversal=1}, """
        "dim_labels=b0f_0io->b0f"
    )
    assert hlo.count(text).flops == 2 * 16 * 4 * 48 * 16


@pytest.mark.parametrize(
    ("line", "kind", "received"),
    [
        (
            "all-gather(%a), replica_groups=mesh['axis_0'=4] {'axis_0'}, dimensions={0}",
            "all-gather",
            3 * 64,
        ),
        ("all-reduce(%a), replica_groups=[2,4]<=[8], to_apply=%add", "all-reduce", 2 * 64 * 3 / 4),
        (
            "reduce-scatter(%a), replica_groups={{0,1},{2,3}}, to_apply=%add",
            "reduce-scatter",
            64 / 2,
        ),
        ("all-to-all(%a), replica_groups={{0,1,2,3}}, dimensions={0}", "all-to-all", 64 * 3 / 4),
        (
            "collective-permute-start(%a), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            64,
        ),
        (
            "all-gather-start(%a), replica_groups=mesh['x'=2,'y'=8] {'y'}, dimensions={0}",
            "all-gather",
            7 * 64,
        ),
        (
            "all-reduce(%a), replica_groups=mesh['x'=2,'y'=8] {'x','y'}, to_apply=%add",
            "all-reduce",
            2 * 64 * 15 / 16,
        ),
    ],
)
def test_bytes_that_a_chip_receives(line, kind, received):
    adder = "%add (x: f32[], y: f32[]) -> f32[] {\n  ROOT %s = f32[] parameter(0)\n}\n"
    body = f"  %a = bf16[4,8]{{1,0:T(8,128)(2,1)}} parameter(0)\n  %c = bf16[16,8] {line}"
    assert hlo.count(module(body, adder)).collectives == {kind: received}


def test_waiting_for_a_collective_does_not_count_again():
    body = """  %a = f32[4] parameter(0)
  %s = (f32[4], f32[8]) all-gather-start(%a), replica_groups={{0,1}}, dimensions={0}
  %d = f32[8] all-gather-done(%s)"""
    assert hlo.count(module(body)).collectives == {"all-gather": 16}


def test_a_collective_that_other_work_progresses_counts_once():
    """It starts once, and a loop of 24 turns carries it along: one channel."""
    gather = "all-gather(%p), channel_id=7, replica_groups={{0,1}}, dimensions={0}"
    part = f"""%start (p: f32[4]) -> f32[8] {{
  %p = f32[4] parameter(0)
  ROOT %g = f32[8] {gather}
}}

%progress (p: f32[4]) -> f32[8] {{
  %p = f32[4] parameter(0)
  ROOT %g = f32[8] {gather}
}}
"""
    loop = LOOP.replace(
        "  ROOT %r", "  %f = f32[8] fusion(%x), kind=kCustom, calls=%progress\n  ROOT %r"
    )
    body = """  %zero = s32[] constant(0)
  %p = f32[8,8] parameter(0)
  %s = f32[8] fusion(%p), kind=kCustom, calls=%start
  %first = (s32[], f32[8,8]) tuple(%zero, %p)
  %w = (s32[], f32[8,8]) while(%first), condition=%condition, body=%body"""
    assert hlo.count(module(body, part + loop)).collectives == {"all-gather": 16}


def test_a_fusion_that_keeps_its_part_of_an_all_reduce_is_a_reduce_scatter():
    fused = """%all-reduce-scatter.1 (p: f32[8]) -> f32[2] {
  %p = f32[8] parameter(0)
  %r = f32[8] all-reduce(%p), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %s = f32[2] slice(%r), slice={[0:2]}
}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %s = f32[] parameter(0)
}
"""
    body = """  %x = f32[8] parameter(0)
  %f = f32[2] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1"""
    assert hlo.count(module(body, fused)).collectives == {"reduce-scatter": 32 * 3 / 4}


def test_a_product_over_a_split_axis_on_the_cpu():
    """Eight devices, each with its rows: products a device, and the sum between them."""
    mesh = jax.make_mesh((8,), ("x",), (jax.sharding.AxisType.Auto,))
    split, whole = NamedSharding(mesh, P(None, "x")), NamedSharding(mesh, P())
    a = jax.ShapeDtypeStruct((4, 64), jnp.float32, sharding=split)
    b = jax.ShapeDtypeStruct((64, 6), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    text = jax.jit(jnp.dot, out_shardings=whole).lower(a, b).compile().as_text()
    counts = hlo.count(text)
    assert counts.flops == 2 * 4 * 8 * 6
    assert counts.collectives == {"all-reduce": 2 * 4 * 6 * 4 * 7 / 8}
