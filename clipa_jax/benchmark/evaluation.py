"""Where the time of zero-shot evaluation goes: the two towers, and all that is not a tower.

    python tools/benchmark.py evaluation --config=configs/model_b/finetune_224.py

The towers run on a sample and are counted up; everything else (tokenizing, class embeddings,
scores, ranks, metrics, intervals) is done in full, on embeddings that are made up. Reading and
decoding pictures is not in it: `benchmark.py data` measures that.
B batch, C classes, E embedding.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from clipa_jax import cli, fingerprint, loading, models, program, schedules, sharding, steps
from clipa_jax import state as states
from clipa_jax.benchmark.bookkeeping import Parts, bookkeeping
from clipa_jax.benchmark.timing import timed
from clipa_jax.evaluators import embed, tables, wording
from clipa_jax.evaluators.class_embeddings import TEXT, ClassEmbeddings
from clipa_jax.settings import Settings

CONFIG = cli.define_config()
PICTURES = flags.DEFINE_integer("pictures", 50_000, "Of the evaluation.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 256, "Of the bookkeeping, as evaluators have it.")
SAMPLE = flags.DEFINE_integer("sample", 16, "Inputs of a tower at a time.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 5, "Times that each tower runs.", lower_bound=1)
TEMPLATES = flags.DEFINE_list("templates", ["imagenet1k", "imagenet_7"], "Sets of sentences.")
CLASSES = flags.DEFINE_string("classes", "imagenet1k", "A data set of the tables.")


def main(argv: list[str]) -> None:
    """Prints a table for each set of sentences."""
    del argv
    config = schedules.split(CONFIG.value)[0]
    cli.start_jax(config)
    mesh = sharding.make_mesh()
    c = Settings(config)
    model = models.build(c.model)
    tokenize = loading.make_tokenize(c.input)
    params = _params(model, c, mesh)
    encoders = steps.make_encoders(model, mesh)
    names = tables.classes(CLASSES.value).names
    image, text = _towers(encoders, params, c, SAMPLE.value, STEPS.value)
    picture = jax.ShapeDtypeStruct((mesh.size, c.input.res, c.input.res, 3), np.uint8)
    width = jax.eval_shape(encoders.image, params, picture).shape[1]
    of_metrics = bookkeeping(PICTURES.value, len(names), width, BATCH.value)
    for templates in TEMPLATES.value:
        sentences = wording.templates(templates)
        beside = _text_side(encoders, params, tokenize, names, sentences)
        parts = Parts(
            PICTURES.value * image, len(names) * len(sentences) * text, *beside, *of_metrics
        )
        cli.say(_report(parts, templates, len(names) * len(sentences), mesh, c))


def _params(model: Any, c: Settings, mesh: Mesh) -> Any:
    spec = program.batch_spec(c.input)
    made = jax.jit(lambda key: states.init_params(model, spec, key))(jax.random.key(0))
    return jax.device_put(made, sharding.replicated(mesh))


def _towers(
    encoders: steps.Encoders, params: Any, c: Settings, sample: int, count: int
) -> tuple[float, float]:
    """Seconds of a picture and of a text, the towers in turns."""
    sample = embed.round_up(sample, encoders.batch_sharding)
    split = encoders.batch_sharding
    rng = np.random.default_rng(0)
    image_BRRC = rng.integers(0, 256, (sample, c.input.res, c.input.res, 3)).astype(np.uint8)
    tokens_BL = rng.integers(0, 1000, (sample, c.input.text_len)).astype(np.int32)
    inputs = jax.device_put((image_BRRC, tokens_BL), split)
    towers: tuple[Callable[[], Any], ...] = (
        lambda: encoders.image(params, inputs[0]),
        lambda: encoders.text(params, inputs[1]),
    )
    for tower in towers:
        timed(tower, steps=1, warmup=1)
    seconds = [[timed(tower, steps=1, warmup=0)[0] for tower in towers] for _ in range(count)]
    image, text = (statistics.median(column) / sample for column in zip(*seconds, strict=True))
    return image, text


def _text_side(
    encoders: steps.Encoders,
    params: Any,
    tokenize: loading.Tokenize,
    names: tuple[str, ...],
    sentences: tuple[str, ...],
) -> tuple[float, float]:
    """Seconds of tokenizing, and of all the rest but the tower, with the weights' fingerprint."""
    fingerprint.of({TEXT: params[TEXT]})  # compiles
    spent = [0.0]

    def timed_tokenize(texts: list[str]) -> np.ndarray:
        began = time.perf_counter()
        tokens_NL = tokenize(texts)
        spent[0] += time.perf_counter() - began
        return tokens_NL

    size = embed.round_up(BATCH.value, encoders.batch_sharding)
    text_BE = jax.device_put(
        np.random.default_rng(0).normal(size=(size, 512)).astype(np.float32),
        encoders.batch_sharding,
    )
    instant = replace(encoders, text=lambda params, tokens_BL: text_BE)
    began = time.perf_counter()
    ClassEmbeddings(instant, timed_tokenize).of(
        params, names, sentences, canonicalize=False, batch_size=size
    )
    return spent[0], time.perf_counter() - began - spent[0]


def _report(parts: Parts, templates: str, texts: int, mesh: Mesh, c: Settings) -> str:
    total = sum(vars(parts).values())
    lines = [
        f"{PICTURES.value:,} pictures of {c.input.res} px, {texts:,} texts of {c.input.text_len} "
        f"tokens ({templates}), {c.model.size} in {c.model.dtype} on {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}"
    ]
    for name, seconds in vars(parts).items():
        lines.append(f"  {name.replace('_', ' '):24}{seconds:12,.2f} s {seconds / total:8.2%}")
    lines.append(
        f"  {'beside the image tower':24}{parts.beside * total:12,.2f} s {parts.beside:8.2%}"
    )
    return "\n".join(lines) + "\n"
