"""The scores that represent a stage, whatever its evaluators are called."""

from collections.abc import Mapping
from typing import Any

# By their key in summary.json: the type of an evaluator, and one of its metrics.
HEADLINES = {
    "zero_shot_top1": ("zero_shot", "top1"),
    "zero_shot_top5": ("zero_shot", "top5"),
    "retrieval_i2t_r1": ("retrieval", "i2t_r1"),
    "retrieval_t2i_r1": ("retrieval", "t2i_r1"),
}


def names(evals: Mapping[str, Any]) -> dict[str, str]:
    """The score, `<evaluator>/<metric>`, of each headline.

    The first evaluator of the type counts, in the order of the config; without one, an evaluator
    that is named like its type.
    """
    first = {section.get("type"): name for name, section in reversed(list(evals.items()))}
    return {key: f"{first.get(kind, kind)}/{metric}" for key, (kind, metric) in HEADLINES.items()}
