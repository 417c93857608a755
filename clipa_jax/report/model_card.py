"""The model card of a converted model, for the Hugging Face hub."""

from collections.abc import Iterator
from typing import Any

from clipa_jax.evaluation import rendering
from clipa_jax.report import tables
from clipa_jax.runs import Run
from clipa_jax.runtime import format, hub
from clipa_jax.weights import released

_CARD = """---
library_name: open_clip
license: {license}{base}
pipeline_tag: zero-shot-image-classification
tags:
- clip
- clipa
- open_clip
---

# {name}

A CLIP model that was {origin} with clipa_jax (CLIPA,
[arXiv 2306.15658](https://arxiv.org/abs/2306.15658)).{mixture}

## Use

```python
import open_clip

model, preprocess = open_clip.create_model_from_pretrained("hf-hub:{repository}")
tokenizer = open_clip.get_tokenizer("hf-hub:{repository}")
```

```python
import clipa_jax

model = clipa_jax.load("hf-hub:{repository}")
```

## Training

Data: {data}

{schedule}

Training FLOPs of these stages: {flops}.

## Evaluation

{scores}
"""


def text(repository: str, license: str, run: Run, report: dict[str, Any] | None) -> str:
    """The card, Markdown.

    Args:
      repository: OWNER/NAME.
      license: as the hub abbreviates it, such as apache-2.0.
      run: that trained the model.
      report: of `clipa_jax.evaluate` on these weights; None for none.
    """
    sources = dict.fromkeys(
        f"`{stage.config['input']['source']}` (split {stage.config['input']['split']})"
        for stage in run.stages
    )
    init = run.stages[0].config.get("init") or "scratch"
    model = released.find(init)
    base = (model.address if model else init).removeprefix(hub.PREFIX).partition("@")[0]
    on_hub = model is not None or init.startswith(hub.PREFIX)
    origin = "trained from scratch, on few tokens first,"
    if init != "scratch":
        origin = f"fine-tuned from {base if on_hub else 'other weights'}"
    table = tables.schedule(run)
    flops = [stage.flops for stage in run.stages]
    known = [value for value in flops if value is not None]
    mixture = report["checkpoint"] if report and " + " in report["checkpoint"] else ""
    return _CARD.format(
        name=repository.partition("/")[2],
        repository=repository,
        license=license,
        base=f"\nbase_model: {base}" if on_hub else "",
        origin=origin,
        mixture=f" After it the weights were averaged: `{mixture}`." if mixture else "",
        data=", then ".join(sources),
        schedule=format.markdown([table.header, *table.rows], ()),
        flops=format.short(sum(known)) if len(known) == len(flops) else "not known",
        scores="\n\n".join(_scores(report)) if report else "None yet.",
    )


def _scores(report: dict[str, Any]) -> Iterator[str]:
    """The table of scores, and the data of each evaluation."""
    yield rendering.scores(report)
    entries = report["evaluations"].items()
    yield "\n".join(f"- {n}: `{entry['source']}`, split {entry['split']}" for n, entry in entries)
