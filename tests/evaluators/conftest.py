"""Evaluators against a model and a dataset whose every answer is known.

The picture and the caption of row i hold the number i; the "towers" look the number up
in a table of random embeddings.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clipa_jax.errors import DataError
from clipa_jax.evaluators import EvalContext, context, dataset

EMBEDDING = 5


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


class FakeData:
    """Stands for `data.eval_batches` with rows held in memory."""

    def __init__(self, rows, names):
        self.rows, self.names = rows, names
        self.passes = []  # (split, features) of each pass over the rows
        self.decoded = []  # positions of pictures that were decoded alone

    def listed(self, source, split, features=()):
        if source != "fake" or split not in ("heldout", "train"):
            raise DataError(f"no dataset {source}, split {split}")
        return SimpleNamespace(
            class_names=self.names.get,
            templates=lambda: None,
            check_features=self.check_features,
            has_captions=True,
            shards=(),
            num_examples=len(self.rows),
        )

    def check_features(self, names):
        for name in names:
            if any(name not in row for row in self.rows):
                raise DataError(f"no feature {name!r}")

    def Split(self, source, split, preprocess, batch_size, features):
        assert (source, preprocess) == ("fake", "decode") and split in ("heldout", "train")
        return SimpleNamespace(
            batches=lambda: self.batches(split, batch_size, features), pictures=self.pictures
        )

    def pictures(self, position_N):
        self.decoded += position_N.tolist()
        numbers = [self.rows[position]["number"] for position in position_N]
        return np.asarray(numbers, np.uint8)[:, None, None, None]

    def batches(self, split, batch_size, features):
        self.passes.append((split, features))
        processes, me = jax.process_count(), jax.process_index()
        local = batch_size // processes
        mine = self.rows[me::processes]
        num_batches = -(-len(self.rows) // batch_size)
        for start in range(0, num_batches * local, local):
            rows = mine[start : start + local]
            padding = [self.rows[0]] * (local - len(rows))
            numbers = [row["number"] for row in rows + padding]
            batch = {name: [row[name] for row in rows + padding] for name in features}
            batch["image"] = np.asarray(numbers, np.uint8)[:, None, None, None]
            batch["_mask"] = np.arange(local) < len(rows)
            yield batch


class Model:
    """Tables of embeddings for pictures and texts, on a mesh of all devices."""

    def __init__(self, texts, num_images, seed=0):
        rng = np.random.default_rng(seed)
        self.texts = {text: row for row, text in enumerate(texts)}
        self.image_NE = unit(rng.normal(size=(num_images, EMBEDDING))).astype(np.float32)
        self.text_ME = unit(rng.normal(size=(len(texts), EMBEDDING))).astype(np.float32)
        self.batch_shapes = set()

    @property
    def state(self):
        params = {"img": self.image_NE, "txt": self.text_ME, "t": np.log([10.0], dtype=np.float32)}
        return SimpleNamespace(params=jax.tree.map(jnp.asarray, params))

    def tokenize(self, texts):
        return np.asarray([[self.texts[text]] for text in texts], np.int32)

    def context(self, devices=None, **changes):
        # Backwards, so that rows of a global array are not in the order of the processes.
        devices = np.asarray((devices or jax.devices())[::-1])
        split = NamedSharding(Mesh(devices, ("data",)), P("data"))

        def image(params, image_BRRC):
            self.batch_shapes.add(image_BRRC.shape[0])
            return params["img"][image_BRRC[:, 0, 0, 0]]

        def text(params, tokens_BL):
            return params["txt"][tokens_BL[:, 0]]

        encoders = SimpleNamespace(
            image=jax.jit(image, out_shardings=split),
            text=jax.jit(text, out_shardings=split),
            batch_sharding=split,
        )
        return EvalContext(
            **{"encoders": encoders, "tokenize": self.tokenize, "preprocess_image": "decode"}
            | changes
        )


def make(kind, context, *, name, **keys):
    """An evaluator of a class, by the keys of its section."""
    return kind(kind.Config(**keys), context, name)


def values_of(evaluator, state):
    """The value of each metric."""
    return {metric: outcome.value for metric, outcome in evaluator.outcomes(state)}


def install(data, setattr_=setattr):
    """Puts fake data in the place of the data room."""
    setattr_(context, "eval_batches", data)
    setattr_(dataset, "eval_batches", data)


def make_rows(num_rows, num_classes, num_groups=3):
    return [
        {
            "number": i,
            "id": f"id/{i}".encode(),
            "concept": np.int64(i % num_classes),
            "group": np.int64(i % num_groups),
            "captions": np.asarray([f"caption {i}".encode(), b"shared", b""][: 1 + i % 3], object),
        }
        for i in range(num_rows)
    ]


def make_world(num_rows=11, num_classes=7):
    """(data, model): 11 pictures of 7 classes in 2 groups, a third group empty."""
    names = {
        "concept": tuple(f"class {i}" for i in range(num_classes)),
        "group": ("flags", "food & drink", "empty group"),
    }
    rows = make_rows(num_rows, num_classes, num_groups=2)
    texts = [f"{form} {i}" for form in ("class", "a class", "caption") for i in range(num_rows)]
    return FakeData(rows, names), Model([*texts, "shared"], num_rows)


@pytest.fixture
def world(monkeypatch):
    data, model = make_world()
    install(data, monkeypatch.setattr)
    return data, model
