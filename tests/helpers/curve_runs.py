"""Finished runs with an accuracy curve and nothing else."""

import json


def make_run(root, shares, seconds=60.0):
    """A run with a stage for each list of accuracies."""
    config = {"input": {"batch_size": 128}, "evals": {"zero_shot": {"type": "zero_shot"}}}
    stages = []
    for index, values in enumerate(shares):
        name = f"stage_{index}"
        (root / name).mkdir(parents=True)
        lines = [
            json.dumps({"step": i, "train_seconds": seconds * (i + 1) / 2, "zero_shot/top1": value})
            for i, value in enumerate(values)
        ]
        lines.insert(0, json.dumps({"step": 0, "train_seconds": 1.0, "loss": 3.0}))
        (root / name / "metrics.jsonl").write_text("\n".join(lines))
        (root / name / "config.json").write_text(json.dumps(config))
        stage = {"name": name, "seconds": seconds, "samples_seen": 12800, "num_params": 1}
        stage |= {"image_tokens": 16 << index, "text_tokens": 8, "zero_shot_top1": values[-1]}
        stage |= {"scores": {"zero_shot/top1": values[-1]}}
        stages.append(stage)
    (root / "summary.json").write_text(json.dumps({"stages": stages}))
    return root
