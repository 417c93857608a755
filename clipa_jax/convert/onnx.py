"""Both towers as ONNX, by PyTorch's exporter from the open_clip model."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import torch
from ml_collections import ConfigDict

from clipa_jax.convert.export import Run, pixels
from clipa_jax.models import CLIP
from clipa_jax.weights import open_clip_folder
from clipa_jax.weights.rules import Arrays

OPSET = 20
MAX_INSIDE = 400_000_000  # parameters; an ONNX file holds at most 2 GiB


class _Image(torch.nn.Module):
    """Pixels, uint8 (B, R, R, 3), to embeddings."""

    def __init__(self, model: Any, mean: tuple, std: tuple):
        super().__init__()
        self.model: Any = model
        self.mean, self.std = 255 * torch.tensor(mean), 255 * torch.tensor(std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        normalized = (pixels.to(torch.float32) - self.mean) / self.std
        return self.model.encode_image(normalized.permute(0, 3, 1, 2), normalize=True)


class _Text(torch.nn.Module):
    """Token ids, int32 (B, L), to embeddings."""

    def __init__(self, model: Any):
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(tokens.to(torch.int64), normalize=True)


def write(folder: Path, model: CLIP, leaves: Arrays, config: ConfigDict) -> tuple[Run, Run]:
    """Writes image.onnx and text.onnx, for any batch size.

    Raises `UserError` if open_clip has no such architecture.
    """
    with tempfile.TemporaryDirectory() as temporary:
        open_clip_folder.write(Path(temporary), model, leaves, config.input, "unknown")
        network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{temporary}")
    image, text = _Image(network, model.mean, model.std).eval(), _Text(network).eval()
    tokens_BL = np.zeros((2, config.input.text_len), np.int32)
    return (
        _export(image, folder / "image.onnx", pixels(config.input.res), "pixels"),
        _export(text, folder / "text.onnx", tokens_BL, "tokens"),
    )


def _export(network: torch.nn.Module, file: Path, example: np.ndarray, name: str) -> Run:
    torch.onnx.export(
        network,
        (torch.from_numpy(example),),
        file,
        input_names=[name],
        output_names=["embeddings"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        external_data=sum(p.numel() for p in network.parameters()) > MAX_INSIDE,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {name: x})[0]
