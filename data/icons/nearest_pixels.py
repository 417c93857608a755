"""The baseline of the icons: the name of the nearest picture of training, by its pixels.

    python data/icons/nearest_pixels.py --data=icons

Top-1 and top-5 among the held-out names, from gray pictures of 32 pixels a side: by the Euclidean
distance, and by the correlation. A name is as near as its nearest picture.
"""

import io
import pathlib
import sys
import tarfile

import numpy as np
from absl import flags
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # for clipa_jax

from clipa_jax.runtime import cli

DATA = flags.DEFINE_string("data", "icons", "Folder that build.py wrote.")
SIDE, CHUNK = 32, 200


def pixels(png: bytes) -> np.ndarray:
    """Gray values from 0 to 1, float32 (SIDE * SIDE,)."""
    small = Image.open(io.BytesIO(png)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / 255


def training(folder: pathlib.Path, number: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of training with one of the names, (T, pixels), and their names' numbers."""
    pictures, names = [], []
    for path in sorted((folder / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if m.name[-4:] != "json"}
        for name, png in files.items():
            text = files[name.replace(".png", ".txt")].decode()
            if name.endswith(".png") and text in number:
                pictures.append(pixels(png))
                names.append(number[text])
    return np.stack(pictures), np.array(names)


def accuracy(test_NP, label_N, train_TP, name_T) -> tuple[float, float]:
    """Top-1 and top-5 by -|a - b|^2."""
    order = np.argsort(name_T, kind="stable")
    name_T, train_TP = name_T[order], train_TP[order]
    present, starts = np.unique(name_T, return_index=True)
    ranks = []
    for start in range(0, len(test_NP), CHUNK):
        rows = slice(start, start + CHUNK)
        near_CT = 2 * test_NP[rows] @ train_TP.T - (train_TP**2).sum(1)
        best_CK = np.maximum.reduceat(near_CT, starts, axis=1)
        column = np.searchsorted(present, label_N[rows])
        column[column == len(present)] = 0
        own = np.where(
            present[column] == label_N[rows], best_CK[np.arange(len(column)), column], -np.inf
        )
        ranks.append((best_CK > own[:, None]).sum(1))
    rank_N = np.concatenate(ranks)
    return float((rank_N < 1).mean()), float((rank_N < 5).mean())


def main(argv: list[str]) -> None:
    """Prints both accuracies."""
    del argv
    folder = pathlib.Path(DATA.value)
    classes = sorted(path.name for path in (folder / "held_out").iterdir())
    number = {name: index for index, name in enumerate(classes)}
    paths = sorted((folder / "held_out").glob("*/*.png"))
    test_NP = np.stack([pixels(path.read_bytes()) for path in paths])
    label_N = np.array([number[path.parent.name] for path in paths])
    train_TP, name_T = training(folder, number)
    cli.say(f"{len(test_NP)} pictures, {len(classes)} names; {len(train_TP)} of training")
    for title, centered in (("distance", False), ("correlation", True)):
        parts = [test_NP, train_TP]
        if centered:
            parts = [part - part.mean(1, keepdims=True) for part in parts]
            parts = [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-6) for p in parts]
        top1, top5 = accuracy(parts[0], label_N, parts[1], name_T)
        cli.say(f"{title}: top-1 {top1:.2%}, top-5 {top5:.2%}")


if __name__ == "__main__":
    cli.run(main, needs_config=False)
