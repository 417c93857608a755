"""The page as a file: whole, closed to the outside, and safe with any caption."""

import base64
import hashlib
import html
import html.parser
import json
import re
import time

import numpy as np
import pytest
import vl_convert

from clipa_jax import runs
from clipa_jax.evaluation import held_out
from clipa_jax.report import charts, curves, page
from tests.helpers import fake_runs

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""
VOID = {"meta", "img", "input", "br", "line", "link"}


class Elements(html.parser.HTMLParser):
    """Checks that elements nest, and collects what the tests ask for."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def parsed(text):
    elements = Elements()
    elements.feed(text)
    elements.close()
    assert elements.open == []
    return elements


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = fake_runs.run(tmp_path_factory.mktemp("run") / "W", looked=fake_runs.held(caption=EVIL))
    fake_runs.evaluation(root / "finetune_2", 0.4)
    return root


@pytest.fixture(scope="module")
def text(root):
    return page.html(runs.read([root]))


def without_scripts(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_elements_nest_and_ids_are_unique(text):
    elements = parsed(text)
    assert len(elements.ids) == len(set(elements.ids))
    targets = {a["href"][1:] for tag, a in elements.tags if tag == "a"}
    assert targets <= set(elements.ids)


def test_nothing_is_asked_of_a_network(text):
    elements = parsed(text)
    for tag, attributes in elements.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for key in ("src", "srcset", "href", "action", "data"):
            value = attributes.get(key) or ""
            assert value == "" or value.startswith(("#", "data:image/"))
    outside = without_scripts(text)
    assert not re.search(r"url\(|@import|https?:", outside)
    policy = next(a["content"] for tag, a in elements.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "img-src data:;" in policy


def test_the_policy_allows_the_scripts_of_the_page_and_no_other(text):
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"&#39;sha256-{digest}&#39;" in text


def test_captions_are_text_and_nothing_else(text):
    elements = parsed(text)
    assert "<script>alert" not in text and "<img src=x" not in text
    assert html.escape(EVIL, quote=True) in text.replace("&#34;", "&quot;").replace(
        "&#39;", "&#x27;"
    )
    assert sum(tag == "script" for tag, _ in elements.tags) == 3
    assert not any("onerror" in attributes for _, attributes in elements.tags)


def test_names_of_stages_cannot_end_the_data_of_the_charts(tmp_path):
    root = tmp_path / "W"
    fake_runs.stage(root, "pretrain", 0.2).rename(root / "<!--<script>")
    text = page.html(runs.read([root]))
    parsed(text)
    data = re.search(r'id="chart-data">(.*?)</script>', text, flags=re.DOTALL)[1]
    assert "<" not in data
    assert json.loads(data)["data"]["loss"][0]["stage"] == "<!--<script>"


def test_every_picture_has_words_and_is_there(text):
    pictures = [attributes for tag, attributes in parsed(text).tags if tag == "img"]
    assert len(pictures) == 2 + 2 + 1
    for attributes in pictures:
        assert attributes["alt"] and attributes["src"].startswith("data:image/png;base64,")
    assert base64.b64decode(pictures[0]["src"].partition(",")[2])[:4] == b"\x89PNG"


def test_what_the_page_says(text):
    for words in ("40.0 %", "38.0 to 42.0", "finetune_2", "A Processor", "decode", "input.res"):
        assert words in text
    assert "place 7 at 0.1\N{NO-BREAK SPACE}%" in text


def test_charts_compile_without_a_warning(root, capfd):
    drawn = charts.charts(runs.read([root]))
    assert [chart["id"] for chart in drawn["charts"]] == ["score", "loss", "temperature", "lr"]
    for chart in drawn["charts"]:
        for axis in drawn["axes"].values():
            rows = drawn["data"][chart["metrics"][0]]
            spec = chart["spec"] | {"data": {"values": rows}, "config": drawn["config"]}
            spec["encoding"] = spec["encoding"] | {"x": axis}
            compiled = vl_convert.vegalite_to_vega(spec, vl_version=charts.VEGA_LITE)
            titles = [one["title"] for one in compiled["axes"] if "title" in one]
            assert axis["title"] in titles
    assert "WARN" not in capfd.readouterr().err


def drawn_with(root, *kept):
    """The charts of a run with some lines of the records of its first stage."""
    file = root / "pretrain" / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{lines[n]}\n" for n in kept))
    found = runs.read([root])
    return charts.charts(found), page.html(found)


def test_a_single_record_is_a_dot_and_a_sentence(tmp_path):
    fake_runs.stage(tmp_path / "W", "pretrain", 0.2)
    drawn, text = drawn_with(tmp_path / "W", 3, 5)
    assert all(chart["note"].startswith("One value so far") for chart in drawn["charts"])
    assert [row["alone"] for row in drawn["data"]["loss"]] == [True]
    text = without_scripts(text)
    assert text.count("a line needs two. config.log_* say how often") == 3
    assert text.count("a line needs two. config.eval_* say how often") == 1


def test_no_record_is_a_sentence(tmp_path):
    fake_runs.stage(tmp_path / "W", "pretrain", 0.2)
    drawn, text = drawn_with(tmp_path / "W")
    assert drawn["charts"] == [] and "no stage has written a record" in text


def test_the_curve_that_a_run_is_compared_with_is_in_the_page(root, tmp_path):
    [run] = runs.read([root])
    curve = curves.Curve("full_length", 37, 12, 0.0, 60.0, [curves.Point(None, 60.0, None, 0.25)])
    curves.save([curve], "2 cores", tmp_path / "curve.json")
    run.stages[-1].config["logs"]["compare"] = [str(tmp_path / "curve.json")]
    compare = charts.comparison([run])
    name = "full resolution from the start, 37 image and 12 text tokens (recorded: 2 cores)"
    assert charts.legend([run], compare)[-1] == (name, None)
    drawn = charts.charts([run], compare)
    [row] = [row for row in drawn["data"]["zero_shot/top1"] if row["series"] == name]
    assert (row["time"], row["y"], row["samples"]) == (1.0, 25.0, None)
    assert name in drawn["charts"][0]["spec"]["encoding"]["color"]["scale"]["domain"]
    text = page.html([run])
    assert 'value="time" checked' in text and f"{name}</li>" in text


def test_a_missing_plan_is_said_once(text):
    assert 'id="plan"' not in text
    assert without_scripts(text).count("tools/plan.py") == 1


def test_several_runs_stand_side_by_side(tmp_path):
    roots = [
        fake_runs.run(tmp_path / name, accuracy, looked=fake_runs.held(place=place))
        for name, accuracy, place in (("a", 0.4, 1), ("b", 0.5, 9))
    ]
    text = page.html(runs.read(roots))
    parsed(text)
    assert "Last results side by side" in text and "Not everything here compares" not in text
    assert text.count('class="card picture"') == 2  # one card a picture, with both runs in it
    fake_runs.evaluation(roots[0] / "finetune_2", 0.4)
    fake_runs.evaluation(roots[1] / "finetune_2", 0.5, count=3)
    held_out.save(fake_runs.held(fingerprint="other"), roots[1] / "finetune_2")
    text = page.html(runs.read(roots))
    assert "Not everything here compares" in text
    assert "different number of samples" in text
    assert text.count('class="card picture"') == 4  # run by run


def test_a_bare_workdir_gives_a_page_that_says_what_is_absent(tmp_path):
    folder = fake_runs.stage(tmp_path / "W", "pretrain", 0.2)
    for name in ("metrics.jsonl", "result.json", "environment.json"):
        (folder / name).unlink()
    text = page.html(runs.read([tmp_path / "W"]))
    parsed(text)
    for words in ("What is absent", "the curves of pretrain", "clipa_jax.train", "tools/plan.py"):
        assert words in text


def test_a_page_of_the_size_of_the_demo_is_small_and_quick(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (120, 48, 48, 3), np.uint8)
    held = fake_runs.held()
    shown = held.shown * 12
    looked = fake_runs.held()
    looked = type(held)(
        **{**vars(looked), "shown": shown, "sought": held.sought * 12, "image_NSSC": noise}
    )
    fake_runs.run(tmp_path / "W", looked=looked)
    began = time.monotonic()
    page.write(runs.read([tmp_path / "W"]), tmp_path / "report.html")
    assert time.monotonic() - began < 30
    assert (tmp_path / "report.html").stat().st_size < 5e6
    assert not list(tmp_path.glob("*.part"))
