"""Optimizer memory and step time with a frozen image tower.

    python -m tests.training.measure_freezing

S/16 at 112 px with 16 text tokens, batch 32. Both steps are timed in turns, so that other load on
the machine affects them alike; the computed ratio is that of the FLOPs that XLA counts.
"""

import statistics

import jax

from clipa_jax import sharding
from clipa_jax.benchmark import device
from clipa_jax.config import recipes
from clipa_jax.config.durations import resolve
from clipa_jax.config.settings import Settings
from clipa_jax.training import program

ROUNDS = 9


def build(freeze):
    """(compiled step, state, batch, bytes of the optimizer)."""
    config = recipes.load("model_s/pretrain")
    config.total_steps, config.total_examples, config.warmup_steps = 100, None, 0
    config.input.batch_size, config.input.text_len = 32, 16
    config.model.dtype, config.model.layers = "float32", "scanned"
    config.model.image.remat = "none"
    config.optim.freeze = freeze
    c = Settings(config)
    durations = resolve(c, batch_size=32, num_examples=None)
    built = program.build(c, sharding.make_mesh(), durations, program.batch_spec(c.input))
    leaves = jax.tree.leaves(built.spec.shapes.opt_state)
    memory = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return built.compile(), built.spec.init(0), device.random_batch(built), memory


def main() -> None:
    """Prints both and their ratios."""
    parts = {"all": build(None), "text alone": build(("image",))}
    states = {name: state for name, (_, state, _, _) in parts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(ROUNDS + 1):
        for name, (update, _, batch, _) in parts.items():

            def step(name=name, update=update, batch=batch):
                states[name], values = update(states[name], batch)
                return values

            seconds[name] += device.timed(step, steps=1, warmup=0) * (turn > 0)
    for name, (update, _, _, memory) in parts.items():
        temporary = update.memory_analysis().temp_size_in_bytes
        print(
            f"{name}: optimizer {memory / 2**20:.1f} MiB, activations and gradients "
            f"{temporary / 2**20:.0f} MiB, step {1e3 * statistics.median(seconds[name]):.0f} ms"
        )
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    costs = [update.cost_analysis()["flops"] for update, *_ in parts.values()]
    memories = [memory for *_, memory in parts.values()]
    print(
        f"ratios: optimizer {memories[1] / memories[0]:.3f}, step {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), FLOPs {costs[1] / costs[0]:.3f}"
    )


if __name__ == "__main__":
    main()
