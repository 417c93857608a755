"""An estimate without a compiler: arithmetic, memory and time from the sizes alone.

For GPUs, and for TPUs without libtpu. The default efficiency is that of the published runs
(`published.EFFICIENCY`); memory is a sum of the known buffers of a step, and only a guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clipa_jax.errors import ConfigError
from clipa_jax.models import layers
from clipa_jax.models.layers import TowerConfig
from clipa_jax.planning import chips, flops
from clipa_jax.planning.workload import Workload

FLOAT32, MOMENTS = 4, {"float32": 4, "bfloat16": 2}
REMAT = ("none", "dots_no_batch", "full")  # settings to choose from, the fewest FLOPs first
ALL_NAMED = ("auto", "none", "dots")  # settings that keep all named values of a layer
LOGITS = 3  # copies of the float32 logits in a naive loss and its gradient


@dataclass(frozen=True)
class Memory:
    """Estimated bytes of one chip."""

    state: float  # parameters, both moments and the gradient
    activations: float  # kept by the forward pass for the backward pass
    layer: float  # the largest layer during its recomputation
    loss: float  # the logits, for losses that hold all of them

    @property
    def total(self) -> float:
        return self.state + self.activations + self.layer + self.loss


@dataclass(frozen=True)
class Estimate:
    """Memory of one chip, and seconds of a step at the stated efficiency."""

    memory: Memory
    step_seconds: float


def estimate(work: Workload, chip: chips.Chip, num_chips: int, efficiency: float) -> Estimate:
    """The estimate of a stage; `efficiency` is model FLOPs over the chips' peak, in (0, 1]."""
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency {efficiency} must be above 0 and at most 1")
    if work.durations.batch_size % num_chips:
        raise ConfigError(
            f"batch {work.durations.batch_size} does not divide over {num_chips} chips; "
            f"nearest: {max(round(work.durations.batch_size / num_chips), 1) * num_chips}"
        )
    seconds = work.step_flops / (num_chips * chip.peak * efficiency)
    return Estimate(memory(work, num_chips), seconds)


def memory(work: Workload, num_chips: int) -> Memory:
    """Estimated bytes of one chip; presets other than `dp` split the state evenly."""
    c = work.config
    shards = 1 if c.sharding.preset == "dp" else num_chips
    state = work.num_params * (3 * FLOAT32 + MOMENTS[c.optim.mu_dtype]) / shards
    batch = work.durations.batch_size
    samples = min(c.get("microbatch") or batch, batch) / num_chips
    img, txt = work.model.img.config, work.model.txt.config
    image = samples * work.image_tokens, work.image_tokens
    text = samples * work.text_tokens, work.text_tokens
    return Memory(
        state=state,
        activations=_kept(img, *image) + _kept(txt, *text),
        layer=max(_working(img, *image), _working(txt, *text)),
        loss=LOGITS * FLOAT32 * batch * batch / num_chips if "naive" in c.loss.name else 0.0,
    )


def step_flops(work: Workload) -> float:
    """Estimated FLOPs of one step, recomputation included, on all chips.

    Orders the settings of a search; `compiled` has the exact count.
    """
    c, forward = work.config, work.forward
    batch = work.durations.batch_size
    again = _recomputed(work.model.img.config, work.image_tokens)
    again += _recomputed(work.model.txt.config, work.text_tokens)
    if (c.get("microbatch") or batch) < batch:
        again += forward.image + forward.text
    return batch * (forward.training + again)


def _recomputed(tower: TowerConfig, tokens: int) -> float:
    """FLOPs of one sample that a tower's layers recompute.

    The last dense layer is not recomputed: its result is the next layer's input.
    """
    if tower.remat in ALL_NAMED:
        return 0.0
    width, hidden = tower.width, tower.mlp_dim
    again = flops.layer(tokens, width, hidden) - 2.0 * tokens * width * hidden
    saved = {
        "qkv": 6.0 * tokens * width**2,
        "attention": 2.0 * tokens**2 * width,
        "out": 2.0 * tokens * width**2,
        "hidden": 2.0 * tokens * width * hidden,
    }
    return tower.depth * (again - sum(saved[name] for name in _named(tower.remat)))


def _kept(tower: TowerConfig, tokens: float, sequence: int) -> float:
    """Bytes that all layers keep for their backward passes, of all tokens on a chip."""
    return tower.depth * tokens * _per_token(tower, tower.remat, sequence)


def _working(tower: TowerConfig, tokens: float, sequence: int) -> float:
    """Bytes of one layer and its gradients during the backward pass."""
    return 2 * tokens * _per_token(tower, "none", sequence)


def _per_token(tower: TowerConfig, remat: str, sequence: int) -> float:
    """Bytes that a layer keeps of each token.

    All keep the layer's input and the named values; `dots` also the scores; `none` also the norms,
    the softmax and the activation function.
    """
    item = tower.dtype.dtype.itemsize
    width, hidden, heads = tower.width, tower.mlp_dim, tower.num_heads
    sizes = {"qkv": 3 * width, "attention": width, "out": width, "hidden": hidden}
    kept = (width + sum(sizes[name] for name in _named(remat))) * item
    if remat in ALL_NAMED:
        kept += FLOAT32 * heads * sequence
    if remat in ("auto", "none"):
        kept += (4 * width + 2 * hidden + heads * sequence) * item
    return float(kept)


def _named(remat: str) -> Sequence[str]:
    """The named values that a layer keeps."""
    if remat in ALL_NAMED:
        return layers.NAMED
    return {"full": (), "dots_no_batch": ("qkv", "out", "hidden")}.get(remat, remat.split("+"))
