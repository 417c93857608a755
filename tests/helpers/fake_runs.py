"""Workdirs as the trainer leaves them, without any training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from clipa_jax.config import recipes
from clipa_jax.evaluation import held_out
from clipa_jax.evaluation.held_out import HeldOut
from clipa_jax.runtime import files
from clipa_jax.training import workdir

STAGES = ("pretrain", "finetune_1", "finetune_2")
DATA = "tfds:data/emoji/1.0.0"  # as in the config of the demo
ENVIRONMENT = {
    "clipa_jax": "0.1.0",
    "jax": "0.10.2",
    "device": "cpu",
    "devices": 2,
    "mesh": {"replica": 1, "fsdp": 2},
    "processor": "A Processor",
    "memory_bytes": 8 * 2**30,
    "data": {"source": "tfds:d", "split": "train", "num_examples": 10, "fingerprint": "f0"},
}


def stage(root: Path, name: str, accuracy: float, steps: int = 200, seconds: float = 60.0) -> Path:
    """A finished stage of the demo in root/name, with four records of training and two scores."""
    config = recipes.load(f"demo/{name}")
    batch = config.input.batch_size
    folder = root / name
    folder.mkdir(parents=True)
    files.write_json(folder / workdir.CONFIG, workdir.to_json(config))
    records: list[dict[str, Any]] = []
    for part in range(1, 5):
        step = steps * part // 4
        record = {"step": step, "seconds": 1.1 * seconds * part / 4, "loss": 4 / part, "lr": 1e-3}
        record |= {"temperature": 14.0 + part, "train_seconds": seconds * part / 4}
        record |= {"samples_per_second": 100.0 * part, "input_wait_share": 0.01 * part}
        record |= {"data/skipped/decode": 2.0, "skipped_updates": 1}
        records.append(record)
    for step, share in ((steps // 2, accuracy / 2), (steps, accuracy)):
        record = {"step": step, "seconds": 1.2 * seconds, "train_seconds": seconds * step / steps}
        record |= {"zero_shot/top1": share, "zero_shot/top1/flags": share, "contrastive/loss": 2.0}
        records.append(record)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(text)
    scores = {"zero_shot/top1": accuracy, "zero_shot/top1/flags": 0.5, "contrastive/loss": 2.0}
    result = {"name": name, "seconds": seconds, "samples_seen": steps * batch, "scores": scores}
    result |= {"image_tokens": 5, "text_tokens": 8, "num_params": 800_000}
    files.write_json(folder / workdir.RESULT, result)
    files.write_json(folder / workdir.ENVIRONMENT, ENVIRONMENT)
    return folder


def evaluation(folder: Path, value: float, **changes: Any) -> None:
    """An evaluation.json with one interval."""
    score = {"value": value, "low": value - 0.02, "high": value + 0.02, "count": 1906}
    entry = {"type": "zero_shot", "source": DATA, "split": "heldout_vendor", "count": 1906}
    entry |= {"seconds": 2.5, "metrics": {"top1": score}, "prompts_fingerprint": "p0"} | changes
    content = {"checkpoint": str(folder), "weights": "00c0ffee", "missing": {}}
    content["evaluations"] = {"zero_shot": entry}
    files.write_json(folder / "evaluation.json", content)


def guess(caption: str, share: float, right: bool) -> dict[str, Any]:
    """A caption that a model finds probable."""
    return {"caption": caption, "share": share, "right": right}


def shown_picture(picture: int, row: int, right: str, place: int, share: float, *top: Any) -> Any:
    """A picture with the place of its right caption."""
    one = {"picture": picture, "row": row, "right": right, "place": place, "share": share}
    return one | {"top": list(top)}


def held(
    side: int = 8, fingerprint: str = "abc", caption: str = "a cat", place: int = 1
) -> HeldOut:
    """Two pictures, one caption, one confused pair."""
    image_NSSC = np.zeros((3, side, side, 3), np.uint8)
    image_NSSC[1, :, : side // 2] = 255
    image_NSSC[2] = np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3)
    shown = [shown_picture(0, 4, caption, place, 0.75), shown_picture(1, 9, "a pig", 7, 0.001)]
    for one in shown:
        one["top"] = [guess(caption, 0.75, place == 1), guess("a dog", 0.2, False)]
    hits = [
        {"picture": 0, "cosine": 0.5, "right": True},
        {"picture": 2, "cosine": -0.25, "right": False},
    ]
    pair = {"first": caption, "second": "a dog", "first_as_second": 0.4, "second_as_first": 0.0}
    return HeldOut(
        evaluator="zero_shot",
        source="tfds:d",
        split="heldout_vendor",
        num_pictures=12,
        num_captions=30,
        fingerprint=fingerprint,
        shown=shown,
        sought=[{"caption": caption, "place": 1, "top": hits}],
        confused=[pair | {"first_picture": 0, "second_picture": None}],
        image_NSSC=image_NSSC,
    )


def run(root: Path, accuracy: float = 0.4, looked: HeldOut | None = None) -> Path:
    """A whole schedule in three stages, each better than the one before it."""
    for number, name in enumerate(STAGES):
        folder = stage(root, name, accuracy - 0.1 * (len(STAGES) - 1 - number))
        if looked is not None:
            held_out.save(looked, folder)
    workdir.write_summary(root, list(STAGES))
    return root
