"""Perceptual hash of pictures: 64 bits, nearly all of which near-duplicates share.

The hash is the pHash of Zauner (2010): signs of the lowest frequencies of a small gray picture, so
scale, format and small changes of color keep it. Unrelated pictures differ in about 32 bits.
"""

import numpy as np
from PIL import Image
from scipy.fft import dctn

SIDE, LOW = 32, 8  # pixels of the gray picture and frequencies that are kept, a side
ROWS = 2**24  # comparisons at once


def picture_hash(pixels_HWC: np.ndarray) -> np.uint64:
    """The hash of a picture, uint8 with one, three or four channels."""
    squeezed = pixels_HWC[..., 0] if pixels_HWC.shape[-1] == 1 else pixels_HWC
    gray = Image.fromarray(squeezed).convert("L")
    small = gray.resize((SIDE, SIDE), Image.Resampling.BOX)
    low_FF = dctn(np.asarray(small, np.float32), norm="ortho")[:LOW, :LOW]
    low_F = low_FF.ravel()
    return np.packbits(low_F > np.median(low_F[1:])).view(">u8")[0].astype(np.uint64)


def are_near(hash_N: np.ndarray, others_M: np.ndarray, bits: int) -> np.ndarray:
    """Whether each hash differs from any of the others in at most `bits` bits, bool (N,)."""
    if not len(others_M):
        return np.zeros(len(hash_N), bool)
    step = max(ROWS // len(others_M), 1)
    parts = (hash_N[n : n + step, None] ^ others_M for n in range(0, len(hash_N), step))
    return np.concatenate([(np.bitwise_count(part) <= bits).any(1) for part in parts])
