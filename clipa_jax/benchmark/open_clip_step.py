"""A peer for the step benchmark: open_clip's training step. Needs requirements-torch.txt.

The steps of open_clip_train/train.py: forward pass (with attention by PyTorch's
`scaled_dot_product_attention`), `ClipLoss` of all pairs, backward pass, AdamW, the clamp of the
temperature. For bfloat16 under autocast, as its `--precision=amp_bf16`. Masked patches are its
`patch_dropout`, which keeps as many as ours.
"""

import os
from collections.abc import Callable

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from clipa_jax.config.settings import Settings
from clipa_jax.planning.workload import Workload
from clipa_jax.weights import architecture

MAX_LOG_SCALE = 4.6052  # log of 100, as in open_clip_train


def network(work: Workload) -> CLIP:
    """A stage's model with random weights; `UserError` if open_clip does not have it."""
    c = work.config
    content = architecture.to_open_clip(work.model, Settings(c).input, "")["model_cfg"]
    return CLIP(
        content["embed_dim"],
        CLIPVisionCfg(**content["vision_cfg"], patch_dropout=c.mask.ratio),
        CLIPTextCfg(**content["text_cfg"]),
    )


def build(work: Workload, compiled: bool) -> Callable[[], None]:
    """A step on noise of the stage's shapes, which returns when the device is ready.

    `compiled` is for `torch.compile`. Raises `UserError` for a model that open_clip does not have.
    """
    c, batch = work.config, work.durations.batch_size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = network(work).to(device)
    images = torch.randn(batch, 3, c.input.res, c.input.res, device=device)
    vocab = c.model.text.vocab_size
    tokens = torch.randint(1, vocab, (batch, c.input.text_len), device=device)
    optimizer = _adamw(model, c.optim)
    loss = open_clip.ClipLoss()
    forward = torch.compile(model) if compiled else model
    half = c.model.dtype == "bfloat16"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            value = loss(*forward(images, tokens)[:3])
        value.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOG_SCALE)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _adamw(model: torch.nn.Module, optim) -> torch.optim.AdamW:
    """AdamW as open_clip_train makes it: vectors and scalars do not decay."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": optim.weight_decay},
        ],
        lr=1e-4,
        betas=(optim.b1, optim.b2),
        eps=optim.eps,
    )
