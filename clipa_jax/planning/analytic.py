"""An estimate without a compiler: arithmetic, memory and hours from the sizes alone.

For GPUs, and for TPUs where libtpu is not installed. The efficiency is that of the
published runs (`published.EFFICIENCY`) unless another is stated; memory is a sum of what
the training loop is known to hold, and is a guide, not a verdict.
"""

from dataclasses import dataclass

from clipa_jax.errors import ConfigError
from clipa_jax.models.layers import TowerConfig
from clipa_jax.planning import chips, flops
from clipa_jax.planning.workload import Workload

FLOAT32, MOMENTS = 4, {"float32": 4, "bfloat16": 2}
LOGITS = 3  # copies of the float32 logits that a naive loss and its gradient hold


@dataclass(frozen=True)
class Memory:
    """Estimated bytes of one chip.

    Attributes:
      state: parameters, both moments and the gradient.
      activations: what the forward pass leaves for the backward pass.
      layer: what the dearest layer needs while it is worked on.
      loss: the logits, where the loss holds them all.
    """

    state: float
    activations: float
    layer: float
    loss: float

    @property
    def total(self) -> float:
        return self.state + self.activations + self.layer + self.loss


@dataclass(frozen=True)
class Estimate:
    """A stage on some chips.

    Attributes:
      memory: of one chip.
      step_seconds: at the stated efficiency.
    """

    memory: Memory
    step_seconds: float


def estimate(work: Workload, chip: chips.Chip, num_chips: int, efficiency: float) -> Estimate:
    """What a stage takes on `num_chips` chips.

    Args:
      efficiency: model FLOPs over the chips' peak, between 0 and 1.

    Raises:
      ConfigError: the batch does not divide over the chips, or an impossible efficiency.
    """
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency {efficiency} must be above 0 and at most 1")
    if work.durations.batch_size % num_chips:
        raise ConfigError(
            f"batch {work.durations.batch_size} does not divide over {num_chips} chips; "
            f"nearest: {max(round(work.durations.batch_size / num_chips), 1) * num_chips}"
        )
    return Estimate(
        memory=memory(work, num_chips),
        step_seconds=work.step_flops / (num_chips * chip.peak * efficiency),
    )


def memory(work: Workload, num_chips: int) -> Memory:
    """Estimated bytes of one chip; the presets other than `dp` split the state evenly."""
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
    """Expected FLOPs of one step with what the backward pass computes again, on all chips.

    For ordering settings by their price; what the compiler says is in `compiled`.
    """
    c, forward = work.config, work.forward
    batch = work.durations.batch_size
    again = _recomputed(work.model.img.config, work.image_tokens)
    again += _recomputed(work.model.txt.config, work.text_tokens)
    if (c.get("microbatch") or batch) < batch:
        again += forward.image + forward.text
    return batch * (forward.training + again)


def _recomputed(tower: TowerConfig, tokens: int) -> float:
    """FLOPs of one sample that a tower's layers compute again, by rematerialisation policy.

    The last dense layer is never needed again: its result is the next layer's input.
    """
    width, hidden = tower.width, tower.mlp_dim
    attention = 4.0 * tokens**2 * width
    again = {
        "none": 0.0,
        "dots": 0.0,
        "dots_no_batch": attention,
        "full": flops.layer(tokens, width, hidden) - 2.0 * tokens * width * hidden,
    }
    return tower.depth * again[tower.remat]


def _kept(tower: TowerConfig, tokens: float, sequence: int) -> float:
    """Bytes that all layers of a tower keep for their backward passes.

    Args:
      tokens: of all samples on a chip.
      sequence: tokens of one sample.
    """
    return tower.depth * tokens * _per_token(tower, tower.remat, sequence)


def _working(tower: TowerConfig, tokens: float, sequence: int) -> float:
    """Bytes of one layer while it is recomputed and differentiated: all of it and its gradients."""
    return 2 * tokens * _per_token(tower, "none", sequence)


def _per_token(tower: TowerConfig, remat: str, sequence: int) -> float:
    """Bytes that a layer keeps of each token, by rematerialisation policy.

    `full` keeps the layer's input; `dots_no_batch` also the results of its dense layers (query,
    key, value, attention output and hidden units); `dots` also scores and their sum of values;
    `none` also the norms, the softmax and the activation function.
    """
    item = tower.dtype.dtype.itemsize
    width, hidden, heads = tower.width, tower.mlp_dim, tower.num_heads
    kept = {"full": width * item}
    kept["dots_no_batch"] = kept["full"] + (4 * width + hidden) * item
    kept["dots"] = kept["dots_no_batch"] + width * item + FLOAT32 * heads * sequence
    kept["none"] = kept["dots"] + (4 * width + 2 * hidden + heads * sequence) * item
    return float(kept[remat])
