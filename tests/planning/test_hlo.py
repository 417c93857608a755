"""Loops, cycles and collectives, read from the text of compiled modules."""

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


LOOP = """
%body (t: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %t = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %x = f32[8,8]{1,0:T(8,128)} get-tuple-element(%t), index=1
  %y = f32[8,8]{1,0:T(8,128)} dot(%x, %x), backend_config={"estimated_cycles":"100"}
  ROOT %r = (s32[], f32[8,8]) tuple(%i, %y)
}

%condition (t: (s32[], f32[8,8])) -> pred[] {
  %n = s32[]{:T(128)} constant(24)
  %t = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}
"""
UNROLLED = LOOP.replace(
    "  ROOT %r = (s32[], f32[8,8]) tuple(%i, %y)",
    """  %two = s32[] constant(2)
  %j = s32[] add(%i, %two)
  ROOT %r = (s32[], f32[8,8]) tuple(%j, %y)""",
)


@pytest.mark.parametrize(
    ("body", "start", "iterations"), [(LOOP, 0, 24), (LOOP, 4, 20), (UNROLLED, 0, 12)]
)
def test_iterations_come_from_the_condition_and_the_counter(body, start, iterations):
    """The TPU compiler states no trip count."""
    text = module(
        f"""  %zero = s32[] constant({start})
  %p = f32[8,8] parameter(0)
  %first = (s32[], f32[8,8]) tuple(%zero, %p)
  %w = (s32[], f32[8,8]) while(%first), condition=%condition, body=%body""",
        body,
    )
    assert hlo.count(text).cycles == 100 * iterations


def test_cycles_of_a_fusion_count_once_and_of_branches_the_most_expensive():
    text = module(
        """  %p = f32[8] parameter(0)
  %f = f32[8] fusion(%p), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"70"}
  ROOT %c = f32[8] conditional(%p), true_computation=%cheap, false_computation=%expensive""",
        """%fused (p: f32[8]) -> f32[8] {
  ROOT %e = f32[8] exponential(%p), backend_config={"estimated_cycles":"50"}
}

%cheap (p: f32[8]) -> f32[8] {
  ROOT %e = f32[8] exponential(%p), backend_config={"estimated_cycles":"1"}
}

%expensive (p: f32[8]) -> f32[8] {
  ROOT %e = f32[8] exponential(%p), backend_config={"estimated_cycles":"9"}
}
""",
    )
    assert hlo.count(text).cycles == 79


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
def test_bytes_received_by_each_kind_of_collective(line, kind, received):
    adder = "%add (x: f32[], y: f32[]) -> f32[] {\n  ROOT %s = f32[] parameter(0)\n}\n"
    body = f"  %a = bf16[4,8]{{1,0:T(8,128)(2,1)}} parameter(0)\n  %c = bf16[16,8] {line}"
    assert hlo.count(module(body, adder)).collectives == {kind: received}


def test_the_end_of_an_asynchronous_collective_does_not_count_again():
    body = """  %a = f32[4] parameter(0)
  %s = (f32[4], f32[8]) all-gather-start(%a), replica_groups={{0,1}}, dimensions={0}
  %d = f32[8] all-gather-done(%s)"""
    assert hlo.count(module(body)).collectives == {"all-gather": 16}


def test_a_collective_spread_over_computations_counts_once():
    """It starts once and a loop of 24 iterations progresses it: one channel."""
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


def test_a_product_over_a_split_axis_needs_one_all_reduce():
    """Eight CPU devices, each with its rows."""
    mesh = jax.make_mesh((8,), ("x",), (jax.sharding.AxisType.Auto,))
    split, whole = NamedSharding(mesh, P(None, "x")), NamedSharding(mesh, P())
    a = jax.ShapeDtypeStruct((4, 64), jnp.float32, sharding=split)
    b = jax.ShapeDtypeStruct((64, 6), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    text = jax.jit(jnp.dot, out_shardings=whole).lower(a, b).compile().as_text()
    assert hlo.count(text).collectives == {"all-reduce": 2 * 4 * 6 * 4 * 7 / 8}
