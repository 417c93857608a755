"""The vocabulary that several tests of this folder need."""

import gzip
from pathlib import Path

import pytest

from clipa_jax.preprocess.vocab import ASSETS

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def bert_vocab(tmp_path_factory) -> str:
    """Path of bert-base-uncased's vocabulary file."""
    path = tmp_path_factory.mktemp("vocab") / "bert_uncased_vocab.txt"
    path.write_bytes(gzip.decompress((ASSETS / "bert-base-uncased.txt.gz").read_bytes()))
    return str(path)
