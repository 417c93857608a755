"""The scores that represent a stage, whatever its evaluators are called."""

from collections.abc import Collection, Mapping
from typing import Any

# By their key in summary.json: the type of an evaluator, and one of its metrics.
HEADLINES = {
    "zero_shot_top1": ("zero_shot", "top1"),
    "zero_shot_top5": ("zero_shot", "top5"),
    "retrieval_i2t_r1": ("retrieval", "i2t_r1"),
    "retrieval_t2i_r1": ("retrieval", "t2i_r1"),
}


def names(evals: Mapping[str, Any], scores: Collection[str] = ()) -> dict[str, str]:
    """The score, `<evaluator>/<metric>`, of each headline.

    `evals` are sections of the config by evaluator. The first evaluator of the type counts of those
    among `scores`, else the first of all; without one, an evaluator that is named like its type.
    """
    chosen = {}
    for key, (kind, metric) in HEADLINES.items():
        names = [f"{name}/{metric}" for name, e in evals.items() if e.get("type") == kind]
        known = [name for name in names if name in scores]
        chosen[key] = next(iter([*known, *names]), f"{kind}/{metric}")
    return chosen
