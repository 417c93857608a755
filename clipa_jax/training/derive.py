"""Values of the recipes in `configs/own/` and `configs/finetune/` that follow from N pairs, the
devices and the initial weights.

- model, resolution, text length, vocabulary and preprocessing, where they are None: those of the
  weights in `init`; the token table that of the vocabulary, if it is trained from scratch
- batch: the power of two at or below N / 64, at least 128 if there are so many pairs, at most 256
  for each CPU device and 1,024 for each accelerator, or `batch_per_device`; a multiple of the
  devices; in micro-batches of `microbatch_per_device`, if that is set
- samples of all stages: 10,000 (`samples_per_root`) times the square root of N (10M for 1M pairs,
  10 epochs), at most `passes` times N; or as many as `minutes` allow, by the time of a few steps of
  each stage on this machine
- cache: the samples stay in memory up to 30,000 pairs; window of the shuffle: N, at most 16,384
- token table: the size of the vocabulary, rounded up to a multiple of 128
- arithmetic: float32 on CPUs, bfloat16 on accelerators
- layers: unrolled on CPUs, where a scan makes small steps slower; scanned on accelerators
- evaluation: on the split `validation` of a TFDS dataset; none where there is no such split

Values set on the command line are kept. A workdir keeps the number of samples that was derived
first.
"""

import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from clipa_jax import sharding
from clipa_jax.config import durations, schedules, schema
from clipa_jax.config.settings import Settings
from clipa_jax.data import pipeline, sources, to_device
from clipa_jax.errors import CheckpointError, ConfigError, UserError
from clipa_jax.preprocess.text import load_tokenizer
from clipa_jax.runtime import distributed, files
from clipa_jax.runtime.files import Path
from clipa_jax.runtime.progress import waiting
from clipa_jax.training import origin, workdir
from clipa_jax.training import stage as stages

CACHED, WINDOW, ROWS = 30_000, 16_384, 128
TRIAL, SECONDS = 20, 5.0  # steps that measure the pace of a stage, or seconds if that is less
RESERVE = 0.1  # share of the minutes for evaluation, checkpoints and the report
RULES = (
    *("pairs", "minutes", "samples_per_root", "passes"),
    *("batch_per_device", "microbatch_per_device"),
)

OpenWeights = Callable[[str], Any]


def resolve(
    config: ConfigDict, open_weights: OpenWeights, root: Path | None = None
) -> list[ConfigDict]:
    """The stages of a config; those of a recipe with all values that it leaves open.

    A recipe has the key `pairs`. `open_weights` opens the weights of `init`; `root` is the workdir
    that keeps the samples, None to measure and keep nothing. Raises `UserError` if the values
    cannot be derived.
    """
    if "pairs" not in config:
        return schedules.split(config)
    configs = [stage.copy_and_resolve_references() for stage in schedules.split(config)]
    for stage in configs:
        with stage.unlocked():  # only this module reads the rules
            for key in set(RULES) & set(stage):
                del stage[key]
    source = Settings(configs[0].input, "config.input")
    data = pipeline.open_source(source)
    pairs = config.pairs or data.num_examples
    for stage in configs:
        if stage.model.size is None:
            _take_from_weights(stage, open_weights)
        _complete(stage, pairs, data.spec, config)
    names = [stage.name for stage in configs]
    shares = dict(zip(config.get("stages", names), config.get("shares", (1.0,)), strict=False))
    lengths = [f"total_{unit}" for unit in durations.UNITS]
    open_stages = [stage for stage in configs if all(stage.get(key) is None for key in lengths)]
    if open_stages:
        weights = {name: shares.get(name, min(shares.values())) for name in names}
        samples = _samples(config, configs, weights, pairs, root)
        for stage in open_stages:
            batch = stage.input.batch_size
            steps = max(round(samples * weights[stage.name] / batch), 1)
            stage.total_examples = steps * batch
    return configs


def batch_size(pairs: int, devices: int, per_device: int) -> int:
    """The largest power of two at or below a 64th of the pairs, within the bounds."""
    power, most = (2 ** math.floor(math.log2(max(number, 1))) for number in (pairs / 64, pairs))
    batch = min(max(power, min(128, most)), per_device * devices)
    return max(batch // devices, 1) * devices


def _take_from_weights(stage: ConfigDict, open_weights: OpenWeights) -> None:
    """Sets what is None in the model, and in the input of the towers, as the weights have it."""
    if not stage.init:
        raise ConfigError(
            "name the weights to start from: --config.init=hf-hub:OWNER/NAME, the name of a "
            "released model, or a path"
        )
    config = open_weights(stage.init).config
    if config is None:
        raise CheckpointError(
            f"{stage.init} carries no config; start from it with the recipe of its model, such as "
            "--config=configs/model_l/finetune_224.py"
        )
    default = schema.default()
    _copy_missing(stage.model, config.model, default.model)
    for key in schema.evaluation().input:
        if stage.input[key] is None:
            stage.input[key] = config.input.get(key, default.input[key])
    if not stage.input.vocab:
        raise CheckpointError(
            f"{stage.init} has an unsupported tokenizer; name a vocabulary that gives "
            "the same token ids with --config.input.vocab="
        )
    if origin.is_fresh(origin.TOKEN_TABLE, stage.surgery):
        stage.model.text.vocab_size = 0


def _copy_missing(section: ConfigDict, given: ConfigDict, default: ConfigDict) -> None:
    """Replaces leaves that are None by those of `given`, or of `default` where it lacks them."""
    for key in section:
        value = given.get(key, default[key])
        if isinstance(section[key], ConfigDict):
            _copy_missing(section[key], value, default[key])
        elif section[key] is None:
            section[key] = value


def _complete(stage: ConfigDict, pairs: int, spec: str, rules: ConfigDict) -> None:
    """Sets what does not depend on the speed of the machine; `rules` has those of the config."""
    cpu = jax.default_backend() == "cpu"
    devices = Settings(stage.mesh).call(sharding.make_mesh).size
    vocab = load_tokenizer(stage.input.vocab).vocabulary.size
    inputs = stage.input
    per_device = rules.get("batch_per_device") or (256 if cpu else 1_024)
    inputs.batch_size = inputs.batch_size or batch_size(pairs, devices, per_device)
    microbatch = devices * (rules.get("microbatch_per_device") or 0)
    if stage.microbatch is None and microbatch and inputs.batch_size % microbatch == 0:
        stage.microbatch = microbatch
    inputs.cache = inputs.cache or ("encoded" if pairs <= CACHED else "none")
    inputs.shuffle_window = inputs.shuffle_window or min(pairs, WINDOW)
    stage.model.dtype = stage.model.dtype or ("float32" if cpu else "bfloat16")
    stage.model.layers = stage.model.layers or ("unrolled" if cpu else "scanned")
    text = stage.model.text
    text.vocab_size = text.vocab_size or -(-vocab // ROWS) * ROWS
    for name in list(stage.evals):
        section = stage.evals[name]
        if section.get("source", "") is None:
            section.source = spec if _has_split(spec, section.split) else None
            if section.source is None:
                logging.warning(
                    "%s: no evaluation %s, since %s has no split %s; clipa-prepare "
                    "--holdout=2%% makes one",
                    stage.name,
                    name,
                    spec,
                    section.split,
                )
                with stage.evals.unlocked():
                    del stage.evals[name]


def _has_split(spec: str, split: str) -> bool:
    if not spec.startswith("tfds:"):
        return False  # other kinds read the same files whatever the split
    try:
        return sources.open(spec, split).num_examples > 0
    except UserError:
        return False


def _samples(
    config: ConfigDict,
    configs: list[ConfigDict],
    weights: dict[str, float],
    pairs: int,
    root: Path | None,
) -> float:
    """Total samples, of which each stage gets its share."""
    if config.minutes is None:
        passes = config.get("passes") or math.inf
        return min(config.get("samples_per_root", 1e4) * math.sqrt(pairs), passes * pairs)
    basis = {"minutes": config.minutes, "pairs": pairs}
    basis["source"] = str(configs[0].input.source)
    if root is None:
        raise ConfigError("--config.minutes is for training; give --config.all.total_examples here")
    file = root / workdir.DERIVED
    recorded: Any = files.read_json(file) if file.exists() else {}
    if recorded and {key: recorded[key] for key in basis} == basis:
        return recorded["samples"]
    samples = distributed.from_first(_fitting(config.minutes * 60, configs, weights))
    if distributed.first():
        root.mkdir(parents=True, exist_ok=True)
        files.write_json(file, basis | {"samples": samples})
    return samples


def _fitting(seconds: float, configs: list[ConfigDict], weights: dict[str, float]) -> int:
    """The samples that fit into the time, by a trial of each stage."""
    left, each = seconds * (1 - RESERVE), 0.0
    for stage in configs:
        began = time.monotonic()
        with waiting(f"measuring {stage.name}"):
            start, step = pace(stage)
        left -= start + (time.monotonic() - began)
        each += weights[stage.name] * step / stage.input.batch_size
        logging.info("%s: %.3f s a step of %d", stage.name, step, stage.input.batch_size)
    least = sum(stage.input.batch_size for stage in configs)
    if left / each < least:
        raise ConfigError(
            f"{seconds / 60:g} minutes are not enough for one step of each stage after the start; "
            "give more --config.minutes, or a smaller size such as configs/own/schedule.py:mini"
        )
    return int(left / each)


def pace(stage: ConfigDict) -> tuple[float, float]:
    """(seconds to the end of the first step, seconds of a step), with the data of the stage."""
    trial = stage.copy_and_resolve_references()
    trial.update(after="", init="scratch", surgery=(), total_examples=None, total_steps=TRIAL)
    trial.evals = ConfigDict()
    least = TRIAL if distributed.several() else 3  # the same number in all processes
    with tempfile.TemporaryDirectory() as folder:
        run = stages.prepare(trial, Path(folder), {})
        began = time.monotonic()
        update, state = run.program.compile(), run.program.spec.init(trial.seed)
        ends: list[float] = []
        with to_device.Prefetch(run.data.start(), run.encoders.batch_sharding) as feed:
            while len(ends) < least or (len(ends) < TRIAL and ends[-1] - ends[0] < SECONDS):
                batch, _ = next(feed)
                state, values = update(state, batch)
                jax.block_until_ready(values)
                ends.append(time.monotonic() - began)
    return ends[0], (ends[-1] - ends[0]) / (len(ends) - 1)
