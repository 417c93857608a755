"""Makes small datasets, and looks at what is in them."""

import hashlib
import subprocess
from pathlib import Path

import tensorflow_datasets as tfds

from clipa_jax.prepare.options import Options

ROOT = Path(__file__).parents[2]
FILTERS = {"min_side": 10, "max_aspect": 4.0, "min_chars": 3}


def options(messy, **changes) -> Options:
    return Options(**{"source": messy.source, "num_shards": 4, **FILTERS, **changes})


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def samples(folder: Path, split: str = "train") -> list[dict]:
    """What TFDS reads, in the order of the files."""
    builder = tfds.builder_from_directory(str(folder))
    decoders = {"image": tfds.decode.SkipDecoding()}
    read = tfds.ReadConfig(interleave_cycle_length=1)
    return list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders, read_config=read)))


def ids(folder: Path) -> list[str]:
    return [sample["id"].decode() for sample in samples(folder)]


class Died(Exception):
    """Stands for the end of the process."""


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
