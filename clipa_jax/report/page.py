"""The report: runs as one HTML file that needs no network and no other file.

The template escapes captions, names and paths. The page's Content-Security-Policy forbids every
request, and every script except its own two.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from clipa_jax import __version__
from clipa_jax.evaluation.held_out import HeldOut
from clipa_jax.report import absent, charts, results, tables
from clipa_jax.report.figures import STAGE_COLORS
from clipa_jax.runs import Run
from clipa_jax.runtime import files, format

ASSETS = Path(__file__).parent / "assets"
_SMALL = 64  # pixels per side up to which pictures are kept without loss


class Headline(NamedTuple):
    """A number at the top of a run, with its label."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class View:
    """The held-out pictures, as data URLs, of the last stage of a run that has some.

    `compared` names the stages with the same pictures, this one included; `places` has, per row of
    the split, the rank of the right caption after each of them.
    """

    run: Run
    stage: str
    held: HeldOut
    picture: list[str]
    compared: tuple[str, ...]
    places: dict[int, tuple[int, ...]]


def write(runs: Sequence[Run], out: files.Path) -> int:
    """Writes the page of some runs; returns its size in bytes."""
    content = html(runs).encode()
    files.write_bytes(out, content)
    return len(content)


def html(runs: Sequence[Run]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": format.count}
    compare = charts.comparison(runs)
    drawn = charts.charts(runs, compare)
    scripts = [_inline(charts.library()), _inline(files.read_text(ASSETS / "page.js"))]
    views = [view for run in runs if (view := _view(run))]
    text = environment.get_template("page.html").render(
        title=" and ".join(run.label for run in runs),
        runs=runs,
        headlines={run.label: headlines(run) for run in runs},
        warnings=results.warnings(runs) if len(runs) > 1 else [],
        tables=tables,
        blocks={run.label: results.of_run(run) for run in runs},
        beside=results.of_runs(runs) if len(runs) > 1 else [],
        between=tables.between_runs(runs) if len(runs) > 1 else [],
        environment=tables.environment(runs),
        charts=drawn["charts"],
        axes=drawn["axes"],
        legend=charts.legend(runs, compare),
        by_time=bool(compare and compare.curves[0].points[0].samples is None),
        has_plan=any(run.plan for run in runs),
        dashes=charts.DASHES if len(runs) > 1 else None,
        views=views,
        shared=_shared(views),
        absent=[entry for run in runs for entry in absent.of(run)],
        chart_data=_json(drawn),
        style=files.read_text(ASSETS / "page.css"),
        palette=STAGE_COLORS,
        scripts=scripts,
        policy=_policy(scripts),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    return text.lstrip()


def headlines(run: Run) -> list[Headline]:
    """The numbers at the top of a run."""
    seconds = sum(stage.seconds for stage in run.stages)
    samples = sum(stage.samples for stage in run.stages)
    flops = [stage.flops for stage in run.stages]
    shown = []
    if run.headline:
        evaluator, _, metric = run.headline.partition("/")
        stage = run.last_evaluated
        score = stage.scores[evaluator][metric]
        label = f"{evaluator}, {metric.replace('top1', 'top-1')}, after {stage.name}"
        interval = results.interval(metric, score)
        value = format.score(metric, score.value)
        shown.append(Headline(value, label, f"95 %: {interval}" if interval else ""))
    params = next((s.result["num_params"] for s in run.stages[::-1] if s.result), None)
    shown.append(Headline(format.short(samples), "samples trained on"))
    shown.append(Headline(format.duration(seconds), "of training"))
    if None not in flops:
        total = sum(value or 0.0 for value in flops)
        shown.append(Headline(format.short(total), "training FLOPs", "the model's own"))
    if params:
        shown.append(Headline(format.short(params), "parameters"))
    return shown


def picture_url(image_SSC: np.ndarray) -> str:
    """A picture as a data URL: PNG where it is small, else JPEG."""
    file = io.BytesIO()
    image = Image.fromarray(image_SSC)
    if max(image.size) <= _SMALL:
        image.save(file, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(file, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _view(run: Run) -> View | None:
    by_stage = {stage.name: stage.held_out for stage in run.stages if stage.held_out}
    if not by_stage:
        return None
    name, last = next(reversed(by_stage.items()))
    ranks = {
        stage: {example["row"]: example["place"] for example in held_out.shown}
        for stage, held_out in by_stage.items()
        if held_out.fingerprint == last.fingerprint
    }
    places = {
        example["row"]: tuple(by_row.get(example["row"], 0) for by_row in ranks.values())
        for example in last.shown
    }
    pictures = [picture_url(image) for image in last.image_NSSC]
    return View(run, name, last, pictures, tuple(ranks), places if len(ranks) > 1 else {})


def _shared(views: Sequence[View]) -> list[dict[str, Any]]:
    """Pictures that several runs share, one entry per picture with the guesses of each run.

    Empty where the pictures differ between runs, or there is only one run.
    """
    if len(views) < 2 or len({view.held.fingerprint for view in views}) > 1:
        return []
    examples = [{example["row"]: example for example in view.held.shown} for view in views]
    return [
        {
            "picture": views[0].picture[example["picture"]],
            "right": example["right"],
            "guesses": [(v, by_row[row]) for v, by_row in zip(views, examples, strict=True)],
        }
        for row, example in examples[0].items()
        if all(row in by_row for by_row in examples)
    ]


def _percent(share: float, digits: int = 1) -> str:
    """`format.percent` with a space that does not break."""
    return format.percent(share, digits).replace(" ", "\N{NO-BREAK SPACE}")


def _json(content: Any) -> str:
    """JSON that is safe inside a script element, whatever names it holds."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _inline(script: str) -> str:
    """A script that cannot end its own element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy of the page: no requests, and no scripts except these."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
