"""Products and HBM bytes of operations, read from the text of compiled modules."""

import pytest

from clipa_jax.planning import operations

CYCLES = 'backend_config={"estimated_cycles":"1"}'
BF16 = "T(8,128)(2,1)"


def read(body: str, more: str = "") -> list[operations.Operation]:
    return operations.read(f"HloModule m\n\n{more}\nENTRY %main (p: f32[]) -> f32[] {{\n{body}\n}}")


@pytest.mark.parametrize(
    ("lhs", "rhs", "out", "attributes", "flops"),
    [
        # A product of 24 rows: 24 x 16 x 40.
        ("24,16", "16,40", "24,40", "dim_labels=bf_io->bf", 2 * 24 * 16 * 40),
        # A batch of 6 products 5 x 7 x 9, as the TPU compiler writes it.
        (
            "6,5,7",
            "6,7,9",
            "6,5,9",
            "window={size=6 stride=5 pad=0_0 lhs_dilate=6}, dim_labels=0bf_0io->0bf",
            2 * 6 * 5 * 7 * 9,
        ),
        # Patches of 14 x 14 pixels: 4 pictures of 84 pixels become 4 x 36 x 32.
        (
            "4,84,84,3",
            "14,14,3,32",
            "4,6,6,32",
            "window={size=14x14 stride=14x14}, dim_labels=b01f_01io->b01f",
            2 * 4 * 36 * 32 * 14 * 14 * 3,
        ),
    ],
)
def test_products_of_a_convolution(lhs, rhs, out, attributes, flops):
    text = f"""  %a = bf16[{lhs}]{{1,0:{BF16}}} parameter(0)
  %b = bf16[{rhs}]{{1,0:{BF16}}} parameter(1)
  %c = bf16[{out}]{{1,0:{BF16}}} convolution(%a, %b), {attributes}, {CYCLES}"""
    (operation,) = read(text)
    assert operation.flops == pytest.approx(flops)


def test_products_of_a_dot_with_a_batch_axis():
    text = f"""  %a = f32[3,5,7] parameter(0)
  %b = f32[3,7,9] parameter(1)
  %c = f32[3,5,9] dot(%a, %b), lhs_batch_dims={{0}}, lhs_contracting_dims={{2}}, {CYCLES}"""
    (operation,) = read(text)
    assert operation.flops == pytest.approx(2 * 3 * 5 * 7 * 9)


def test_bytes_are_of_whole_tiles_in_hbm():
    """37 x 37 scores fill 40 x 128; what lies in on-chip memory, `S(1)`, is not traffic."""
    text = f"""  %a = f32[16,37,37]{{2,1,0:T(8,128)}} parameter(0)
  %b = f32[1024,1024]{{1,0:T(8,128)S(1)}} parameter(1)
  %c = bf16[37,16,37]{{2,0,1:{BF16}}} add(%a, %b), {CYCLES}"""
    (operation,) = read(text)
    assert operation == (1, 0, 16 * 40 * 128 * 4 + 16 * 40 * 128 * 2)


FUSED = """%inner (v: f32[24,8,128], j: s32[]) -> f32[8,128] {
  %v = f32[24,8,128]{2,1,0:T(8,128)} parameter(0)
  %j = s32[] parameter(1)
  %s = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%v, %j), dynamic_slice_sizes={1,8,128}
  ROOT %b = f32[8,128]{1,0:T(8,128)} bitcast(%s)
}

%fused (w: f32[24,8,128], g: f32[24,8,128], i: s32[], x: f32[64,128]) -> (f32[24,8,128]) {
  %w = f32[24,8,128]{2,1,0:T(8,128)} parameter(0)
  %g = f32[24,8,128]{2,1,0:T(8,128)} parameter(1)
  %i = s32[] parameter(2)
  %x = f32[64,128]{1,0:T(8,128)} parameter(3)
  %n = f32[8,128]{1,0:T(8,128)} fusion(%w, %i), kind=kLoop, calls=%inner
  %m = f32[1,8,128]{2,1,0:T(8,128)} bitcast(%n)
  %u = f32[24,8,128]{2,1,0:T(8,128)} dynamic-update-slice(%g, %m, %i)
  %a = f32[256,128]{1,0:T(8,128)} all-gather(%x), dimensions={0}, replica_groups={{0,1,2,3}}
  ROOT %t = (f32[24,8,128], f32[64,128], f32[256,128]) tuple(%u, %x, %a)
}
"""


def test_a_layer_of_a_stack_counts_alone_and_what_is_passed_on_or_sent_does_not():
    """The slice may lie in a fusion of the fusion; a collective has its own seconds."""
    stack, rows = "f32[24,8,128]{2,1,0:T(8,128)}", "f32[64,128]{1,0:T(8,128)}"
    results = f"({stack}, {rows}, f32[256,128]{{1,0:T(8,128)}})"
    text = f"""  %w = {stack} parameter(0)
  %g = {stack} parameter(1)
  %i = s32[]{{:T(128)S(6)}} parameter(2)
  %x = {rows} parameter(3)
  %f = {results} fusion(%w, %g, %i, %x), calls=%fused, {CYCLES}"""
    (operation,) = read(text, FUSED)
    assert operation.bytes == 2 * 8 * 128 * 4


def test_seconds_are_of_the_larger_bound_of_each_operation():
    both = [operations.Operation(2, 10, 1), operations.Operation(1, 1, 30)]
    assert operations.seconds(both, peak=10, bandwidth=10) == 2 * 1 + 3
