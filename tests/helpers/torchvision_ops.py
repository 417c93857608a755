"""Lets torchvision import beside a PyTorch that it was not built for.

The machines that run these tests have PyTorch for the CPU but torchvision's CUDA build,
whose compiled operators do not load. open_clip only needs its transforms.
"""

import importlib.util
from pathlib import Path

import torch

_declared = []


def declare() -> None:
    """Declares the two operators that torchvision registers fakes for, where it cannot."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None and spec.origin is not None, "pip install -r requirements-torch.txt"
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # it lasts as long as this object
