"""Datasets made from a bucket into a bucket."""

import io
import tarfile
from http import HTTPStatus

import pytest

from clipa_jax.data import reading, sources
from clipa_jax.errors import DataError
from clipa_jax.prepare import dataset
from clipa_jax.prepare.options import Options
from clipa_jax.runtime import storage
from tests.helpers import bucket as buckets
from tests.helpers import writers
from tests.prepare.conftest import encoded, photo

FOLDERS, EACH = ("a", "b"), 3


@pytest.fixture(scope="module")
def bucket():
    """Tars in two folders, as img2dataset leaves them on two machines."""
    with buckets.running() as bucket:
        for number, folder in enumerate(FOLDERS):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as tar:
                for sample in range(number * EACH, (number + 1) * EACH):
                    writers.add(tar, f"{sample}.jpg", encoded(photo(sample)))
                    writers.add(tar, f"{sample}.txt", f"caption {sample}".encode())
            storage.write(f"gs://bucket/raw/{folder}/00000.tar", content.getvalue())
        yield bucket


def test_wildcards_in_folders_name_the_input_and_the_dataset_lies_in_the_bucket(bucket):
    options = Options(source="webdataset:gs://bucket/raw/*/*.tar")
    report = dataset.make(options, "gs://bucket/pairs/1.0.0")
    assert report["kept"] == len(FOLDERS) * EACH
    assert not storage.names("gs://bucket/pairs/1.0.0.unfinished")
    source = sources.open("tfds:gs://bucket/pairs/1.0.0", "train")
    samples = [source.parse(record) for record in reading.everything(source)]
    captions = sorted(sample["captions"].numpy()[0].decode() for sample in samples)
    assert captions == [f"caption {number}" for number in range(len(FOLDERS) * EACH)]


def test_a_dataset_that_tensorflow_may_not_read_is_an_error(bucket, monkeypatch):
    def fails(method, path):
        return HTTPStatus.FORBIDDEN if path.startswith("/bucket/") else None  # its addresses

    monkeypatch.setattr(bucket, "fails", fails)
    options = Options(source="webdataset:gs://bucket/raw/a/*.tar")
    with pytest.raises(DataError, match="cannot be read back by TensorFlow"):
        dataset.make(options, "gs://bucket/more/1.0.0")
