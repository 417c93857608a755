"""A reference for the input pipeline: open_clip's loader. Needs PyTorch.

The steps and libraries of open_clip_train/data.py for training: tar files read by webdataset, PIL
decoding, and the transform of `open_clip.image_transform(is_train=True)` (RandomResizedCrop,
bicubic; ToTensor; Normalize), in batches. Without worker processes, which only add the cost of
moving batches. Needs requirements-torch.txt and requirements-dev.txt.
"""

from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch
import webdataset


def loader(tar: Path, batch_size: int, size: int, jitter: float) -> Iterator[torch.Tensor]:
    """Endless batches of normalized pictures from a file of JPEGs, float32 (B, 3, R, R).

    `jitter` is the strength of the color jitter; 0 for none, and no gray pictures either.
    """
    torch.set_num_threads(1)  # as in the processes of a DataLoader
    colors = {
        "color_jitter": [0.8 * jitter] * 3 + [0.2 * jitter],
        "color_jitter_prob": 0.8,
        "gray_scale_prob": 0.2,
    }
    transform = open_clip.image_transform(
        size,
        is_train=True,
        aug_cfg={"scale": (0.4, 1.0), **(colors if jitter else {})},
    )
    dataset = webdataset.DataPipeline(
        webdataset.SimpleShardList([str(tar)]),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg"),
        webdataset.map_dict(image=transform),
        webdataset.to_tuple("image"),
        webdataset.batched(batch_size, partial=False),
    ).repeat()
    for (images,) in webdataset.WebLoader(dataset, batch_size=None, num_workers=0):
        yield images
