"""What a run shows when it ends: the two pictures and the table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from clipa_jax import pictures
from clipa_jax.errors import DataError
from clipa_jax.evaluators import ZeroShot
from clipa_jax.stage import Stage

ACCURACY, HELD_OUT = "accuracy.png", "held_out.png"


def held_out(run: Stage, state: Any, count: int = 15) -> Path | None:
    """Draws held-out pictures with their top five captions: W/<stage>/held_out.png.

    None where the stage has no zero-shot evaluation, or on several processes: a picture's
    pixels stay on the process that read them.
    """
    zero_shot = next((e for e in run.evaluators.values() if isinstance(e, ZeroShot)), None)
    if zero_shot is None or jax.process_count() > 1:
        return None
    some = zero_shot.examples(state, count, seed=run.settings.seed)
    return pictures.top5_sheet(
        some.image_NRRC, some.names, some.probability_NC, some.right_N, run.folder / HELD_OUT
    )


def end(root: Path, summary: dict[str, Any], stages: Sequence[Stage]) -> None:
    """Logs the table of all stages and where the pictures are; draws W/accuracy.png."""
    logging.info("\n%s\n", pictures.stage_table(summary))
    if jax.process_index():
        return
    compare = stages[-1].settings.logs.compare
    live = next((path for path in compare if (Path(path) / "summary.json").exists()), None)
    recorded = next((path for path in compare if path.endswith(".json")), None)
    drawn = [run.folder / HELD_OUT for run in stages[-1:]]
    try:
        picture = root / ACCURACY
        drawn.append(pictures.accuracy_against_time(root, picture, compare=live, recorded=recorded))
    except DataError as error:
        logging.info("no accuracy curve: %s", error)
    for path in [root / "summary.json", *drawn]:
        if path.exists():
            logging.info("wrote %s", path)
