"""Runs every evaluator of a config on a checkpoint; JSON out.

python -m clipa_jax.evaluate --config=configs/demo/finetune_2.py --checkpoint=runs/demo
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags, logging

from clipa_jax import cli, distributed, evaluators, loading, schedules, workdir
from clipa_jax.data import pipeline
from clipa_jax.errors import ConfigError
from clipa_jax.settings import Settings

CONFIG = cli.define_config()
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, a stage's folder or a weights file.", required=True
)
OUT = flags.DEFINE_string("out", None, "Also write the scores to this JSON file.")


def main(argv: list[str]) -> int | None:
    """Prints the scores of the checkpoint as JSON."""
    del argv
    config = schedules.split(CONFIG.value)[-1]  # of a schedule, the last stage
    cli.start_jax(config)
    model = loading.load(CHECKPOINT.value, config)
    input_section = Settings(model.config.input, "config.input")
    environment = evaluators.Environment(
        encoders=model.encoders,
        tokenize=model.tokenize,
        preprocess_image=pipeline.fill(input_section.preprocess_eval, input_section),
        temperature_max=model.config.model.temperature_max,
    )
    built = evaluators.build(Settings(config.evals, "config.evals"), environment)
    if not built:
        raise ConfigError("the config has no evaluators; name some in config.evals")
    scores = {name: _run(name, evaluator, model) for name, evaluator in built.items()}
    report = {"checkpoint": CHECKPOINT.value, "scores": scores}
    if distributed.first():
        if OUT.value:
            workdir.write_json(Path(OUT.value), report)
        json.dump(report, sys.stdout, indent=1)
        sys.stdout.write("\n")
    return None


def _run(name: str, evaluator: evaluators.Evaluator, model: loading.Model) -> dict[str, Any]:
    began = time.monotonic()
    scores: dict[str, Any] = dict(evaluator.run(model))
    scores["seconds"] = round(time.monotonic() - began, 1)
    logging.info("%s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
    return scores


if __name__ == "__main__":
    cli.run(main)
