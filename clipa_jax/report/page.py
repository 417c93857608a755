"""Runs as one HTML file that needs nothing else: no network, no other file.

Captions, names and paths come from outside and are escaped by the template. The page's own policy
forbids every request, and every script but its own two.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from clipa_jax import __version__
from clipa_jax.report import absent, charts, format, results, tables
from clipa_jax.report.figures import STAGE_COLOURS
from clipa_jax.report.held_out import HeldOut, Shown
from clipa_jax.report.runs import Run

NAME = "report.html"  # in the workdir
ASSETS = Path(__file__).parent / "assets"
_SMALL = 64  # pixels a side up to which pictures are kept without loss


@dataclass(frozen=True)
class Headline:
    """A number that a run is known by, and what it is."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Look:
    """What the held-out pictures of one run's last stage show.

    Attributes:
      run, stage: whose.
      held: all of it.
      picture: of each, as a data URL.
      before: earlier stages that looked at the same pictures, by name.
      places: for each row of the split, the place of the right caption after each stage.
    """

    run: Run
    stage: str
    held: HeldOut
    picture: list[str]
    before: tuple[str, ...]
    places: dict[int, tuple[int, ...]]


def write(runs: Sequence[Run], out: Path) -> None:
    """Writes the page of some runs; a kill leaves the old file or the new one."""
    part = out.with_name(f"{out.name}.part")
    part.write_text(html(runs), encoding="utf-8")
    part.replace(out)


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
    drawn = charts.charts(runs)
    scripts = [_inline(charts.library()), _inline((ASSETS / "page.js").read_text("utf-8"))]
    looks = [look for run in runs if (look := _look(run))]
    text = environment.get_template("page.html").render(
        title=" and ".join(run.label for run in runs),
        runs=runs,
        headlines={run.label: headlines(run) for run in runs},
        marks=results.marks(runs) if len(runs) > 1 else [],
        tables=tables,
        blocks={run.label: results.of_run(run) for run in runs},
        beside=results.of_runs(runs) if len(runs) > 1 else [],
        between=tables.between_runs(runs) if len(runs) > 1 else [],
        environment=tables.environment(runs),
        charts=drawn["charts"],
        axes=drawn["axes"],
        legend=charts.legend(runs),
        dashes=charts.DASHES if len(runs) > 1 else None,
        looks=looks,
        shared=_shared(looks),
        absent=[entry for run in runs for entry in absent.of(run)],
        chart_data=_json(drawn),
        style=(ASSETS / "page.css").read_text("utf-8"),
        palette=STAGE_COLOURS,
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
    found = []
    if first := results.headline(run):
        evaluator, metric, score = first
        name = results.last_evaluated(run).name
        label = f"{evaluator}, {metric.replace('top1', 'top-1')}, after {name}"
        interval = results.interval(metric, score)
        value = format.score(metric, score.value)
        found.append(Headline(value, label, f"95 %: {interval}" if interval else ""))
    params = next((s.result["num_params"] for s in run.stages[::-1] if s.result), None)
    found.append(Headline(format.short(samples), "samples trained on"))
    found.append(Headline(format.duration(seconds), "of training"))
    if None not in flops:
        total = sum(one or 0.0 for one in flops)
        found.append(Headline(format.short(total), "training FLOPs", "the model's own"))
    if params:
        found.append(Headline(format.short(params), "parameters"))
    return found


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


def _look(run: Run) -> Look | None:
    """The last stage that has held-out evidence; None where none has."""
    having = [stage for stage in run.stages if stage.held_out]
    if not having:
        return None
    held = having[-1].held_out
    assert held is not None
    same = [
        (stage.name, stage.held_out)
        for stage in having
        if stage.held_out and stage.held_out.fingerprint == held.fingerprint
    ]
    places = {
        one.row: tuple(
            next((shown.place for shown in other.shown if shown.row == one.row), 0)
            for _, other in same
        )
        for one in held.shown
    }
    return Look(
        run=run,
        stage=having[-1].name,
        held=held,
        picture=[picture_url(image) for image in held.image_NSSC],
        before=tuple(name for name, _ in same),
        places=places if len(same) > 1 else {},
    )


def _shared(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Pictures that several runs looked at: one entry a picture, with what each said of it.

    Empty where the runs looked at different pictures, or there is one run alone.
    """
    if len(looks) < 2 or len({look.held.fingerprint for look in looks}) > 1:
        return []
    said: list[dict[int, Shown]] = [{one.row: one for one in look.held.shown} for look in looks]
    first = looks[0]
    rows = [one for one in first.held.shown if all(one.row in known for known in said)]
    return [
        {
            "picture": first.picture[one.picture],
            "right": one.right,
            "said": [(look, known[one.row]) for look, known in zip(looks, said, strict=True)],
        }
        for one in rows
    ]


def _percent(share: float, digits: int = 1) -> str:
    """As `words.percent`, on one line."""
    return format.percent(share, digits).replace(" ", "\N{NO-BREAK SPACE}")


def _json(content: Any) -> str:
    """JSON that can stand inside of a script element, whatever names it holds."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _inline(script: str) -> str:
    """A script that does not end the element it stands in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy of the page: nothing from outside, no script but these."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
