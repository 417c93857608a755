"""The page in a real browser: Debian's chromium, without a window."""

import pytest

from clipa_jax import runs
from clipa_jax.report import page
from tests.helpers import browser, fake_runs

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium here; `apt-get install chromium` brings it"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    held = fake_runs.held(caption="<script>alert(1)</script> " + "a very long caption " * 9)
    roots = [fake_runs.run(folder / name, looked=held) for name in ("one", "two")]
    fake_runs.evaluation(roots[0] / "finetune_2", 0.4)
    page.write(runs.read(roots[:1]), folder / "single.html")
    page.write(runs.read(roots), folder / "both.html")
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.page(PROGRAM, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def against(tab, axis):
    """Chooses the axis of the charts and waits until they are drawn."""
    tab.run("delete document.body.dataset.drawn")
    tab.run(
        f"(i => {{ i.checked = true; i.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector('input[value={axis}]'))"
    )
    tab.wait("document.body.dataset.drawn === 'true'")


@pytest.mark.parametrize("name", ["single.html", "both.html"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_renders_without_complaint_or_overflow(report, tab, name, width):
    tab.complaints.clear()
    tab.open(report / name, width)
    assert tab.complaints == []
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelectorAll('.plot svg').length") == 4
    outside = tab.run(
        "[...document.querySelectorAll('.plot svg')].filter("
        "s => s.getBoundingClientRect().right > innerWidth).length"
    )
    assert outside == 0
    tab.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    tab.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    tab.wait("[...document.images].every(i => i.complete)")
    assert tab.run("[...document.images].filter(i => i.naturalWidth > 0).length") >= 5
    assert tab.run("[...document.images].every(i => i.naturalWidth > 0)")
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", ["single.html", "both.html"])
def test_no_label_is_cut_on_a_phone(report, tab, name):
    tab.open(report / name, 390)
    for axis in ("samples", "time", "flops"):
        against(tab, axis)
        cut = tab.run(
            "[...document.querySelectorAll('.plot svg text')].filter(t => {"
            " const box = t.getBoundingClientRect();"
            " return box.left < 0 || box.right > innerWidth; }).map(t => t.textContent)"
        )
        assert cut == []
    wide = tab.run(
        "[...document.querySelectorAll('.stack i')].filter(i => i.checkVisibility("
        "{visibilityProperty: true}) && i.scrollWidth > i.parentElement.clientWidth).length"
    )
    assert wide == 0
    names = tab.run(
        "[...document.querySelectorAll('#environment tbody th')]"
        ".map(t => getComputedStyle(t).whiteSpace)"
    )
    assert set(names) == {"nowrap"}


def test_the_axis_and_the_metric_can_be_chosen(report, tab):
    tab.open(report / "single.html", 1280)
    read = "document.querySelector('#chart-loss svg').textContent"
    for axis, title in (
        ("samples", "samples trained on"),
        ("flops", "training FLOPs"),
        ("time", "minutes"),
    ):
        against(tab, axis)
        assert title in tab.run(read)
    assert tab.complaints == []


def test_the_nearest_point_says_what_it_is(report, tab):
    tab.open(report / "single.html", 1280, height=2000)
    against(tab, "samples")
    box = "document.querySelector('#chart-loss svg').getBoundingClientRect()"
    x, y, width, height = tab.run(f"(b => [b.x, b.y, b.width, b.height])({box})")
    said = "document.querySelector('#vg-tooltip-element.visible')?.textContent"
    for share in (0.5, 0.52):  # a pointer that moves
        at = {"x": x + share * width, "y": y + height / 2}
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    tab.wait(f"({said} ?? '').includes('finetune_1')")
    assert "runone" in tab.run(said) and "undefined" not in tab.run(said)
