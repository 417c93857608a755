"""Finished runs as files, without training."""

import json
from pathlib import Path

from clipa_jax.config import recipes


def plant(root: Path, score: float, *, stages=("pretrain",), extra=None, evaluation=None, **keys):
    """A run in `root`, whose last stage has this zero-shot top-1.

    Args:
      stages: of `configs/scaling`; all have the same result but for the score.
      extra: further entries of each result.
      evaluation: content of the last stage's evaluation.json.
      keys: of every stage's config, as `model__size`; with `pretrain___` in front, of that alone.
    """
    results = []
    for stage in stages:
        config = recipes.load(f"scaling/{stage}")
        for key, value in keys.items():
            owner, _, name = key.rpartition("___")
            if owner in ("", stage):
                config.update_from_flattened_dict({name.replace("__", "."): value})
        if stages[0] != "pretrain":
            config.after = ""
        folder = root / stage
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config.to_json_best_effort())
        results.append(result(config, score) | (extra or {}))
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (root / "summary.json").write_text(json.dumps({"stages": results}))
    return root


def result(config, score):
    """What the trainer would say of a stage."""
    patches = (config.input.res // 8) ** 2
    if config.mask.ratio:
        patches = round(patches * (1 - config.mask.ratio))
    return {
        "name": config.name,
        "seconds": 10.0,
        "samples_seen": config.total_examples,
        "image_tokens": patches + 1,
        "text_tokens": config.input.text_len,
        "num_params": {"nano/8": 1_000, "micro/8": 2_000, "mini/8": 3_000}[config.model.size],
        "data": "1234",
        "zero_shot_top1": score,
        "zero_shot_top5": None,
        "scores": {"zero_shot/top1": score, "contrastive/loss": 5 - score},
    }
