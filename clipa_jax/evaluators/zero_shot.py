"""Zero-shot classification: each picture against the text of every class.

A class's embedding is the mean of its prompts' unit embeddings, scaled to unit length
(CLIP, arXiv 2103.00020, section 3.1.4). B batch, C classes, T templates, E embedding.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from clipa_jax.errors import nearest
from clipa_jax.evaluators import embed, scores, wording
from clipa_jax.evaluators.dataset import Dataset
from clipa_jax.evaluators.environment import About, Environment, Evaluator, HasParams
from clipa_jax.evaluators.gallery import Gallery
from clipa_jax.evaluators.outcome import Outcome, unique_ids


class ZeroShot(Evaluator):
    """Top-1, top-5 and mean per-class recall over all classes, as shares in [0, 1].

    `top5` is reported for more than five classes. `mean_recall` leaves out classes that the
    split has no picture of.

    Args:
      env: encoders and defaults.
      name: the evaluator's name in the config, for messages.
      source: dataset, e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
      label: the feature that holds the class, an integer.
      classes: names of the classes by label: a tuple, or the path of a JSON file; None for
        the names that the dataset gives.
      templates: a name in `evaluators/prompts/`, the path of a JSON file, or a tuple of
        sentences with `{}` for the class name.
      canonicalize: lower-case prompts and strip their punctuation, as in the released
        evaluator. Off by default: a tokenizer may tell "flag: Peru" from "flag Peru".
      by: another integer feature that sorts the pictures into groups; adds `top1/<group>`
        for every group of the split. The candidates are all classes throughout.
      without: groups of `by` whose complement is reported too, as `top1/not_<group>`, so that
        an easy group cannot flatter the whole.
      preprocess: ops for the pictures; None for the run's own.
      batch_size: global; rounded up to what divides over the devices.
    """

    def __init__(
        self,
        *,
        env: Environment,
        name: str,
        source: str,
        split: str,
        label: str,
        classes: str | Sequence[str] | None = None,
        templates: str | Sequence[str] = "plain",
        canonicalize: bool = False,
        by: str | None = None,
        without: Sequence[str] = (),
        preprocess: str | None = None,
        batch_size: int = 256,
    ):
        self._env = env
        self._label, self._by = label, by
        self._data = Dataset.open(
            env,
            name,
            source,
            split,
            preprocess=preprocess,
            batch_size=batch_size,
            features=(label, by, "id") if by else (label, "id"),
        )
        self.names = _class_names(self._data, label, classes)
        self._groups = self._data.class_names(by) if by else ()
        for group in without:
            if group not in self._groups:
                options = self._groups or ("by=<feature> must be set",)
                raise self._data.error(
                    f"without={group!r}: no such group; {nearest(group, options)}"
                )
        self._without = tuple(without)
        self._sentences = wording.templates(templates)
        self._canonicalize = canonicalize
        self._tokens_NL: np.ndarray | None = None

    def about(self) -> About:
        """What is evaluated, and the prompts of all classes."""
        return self._data.about(self._prompts())

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields the metrics for the parameters of `state`; a sample is a picture."""
        class_CE = self.classifier(state)
        rank_parts, labels, groups, ids = [], [], [], []
        for batch in embed.images(self._env.encoders, state.params, self._data.batches()):
            right_B = self._labels(batch)
            rank_parts.append(scores.ranks(batch.image_BE @ class_CE.T, right_B))
            labels.append(right_B)
            groups += batch.features[self._by] if self._by else []
            ids += batch.features["id"]
        if not ids:
            raise self._data.error("no pictures")
        ranks_N, label_N = np.concatenate(rank_parts), np.concatenate(labels)
        id_N = np.asarray(unique_ids(ids))
        yield "top1", Outcome.mean(id_N, ranks_N < 1)
        if len(self.names) > 5:
            yield "top5", Outcome.mean(id_N, ranks_N < 5)
        yield "mean_recall", Outcome.class_mean(id_N, ranks_N < 1, label_N)
        yield from self._by_group(id_N, ranks_N < 1, np.asarray(groups))

    def classifier(self, state: HasParams) -> np.ndarray:
        """Unit-length embeddings of the classes, float32 (C, E)."""
        if self._tokens_NL is None:
            self._tokens_NL = self._env.tokenize(self._prompts())
        encoders, size = self._env.encoders, self._data.batch_size
        sum_CE: np.ndarray | None = None
        for rows, text_BE in embed.texts(encoders, state.params, self._tokens_NL, size):
            if sum_CE is None:
                sum_CE = np.zeros((len(self.names), text_BE.shape[1]), np.float32)
            class_B = np.arange(rows.start, rows.stop) // len(self._sentences)
            np.add.at(sum_CE, class_B, text_BE)
        assert sum_CE is not None  # there is at least one class
        return sum_CE / np.linalg.norm(sum_CE, axis=1, keepdims=True)

    def gallery(self, state: HasParams) -> Gallery:
        """All pictures and class names as the parameters of `state` embed them."""
        parts, labels = [], []
        for batch in embed.images(self._env.encoders, state.params, self._data.batches()):
            parts.append(batch.image_BE)
            labels.append(self._labels(batch))
        if not parts:
            raise self._data.error("no pictures")
        label_N = np.concatenate(labels)
        return Gallery(
            data=self._data,
            row_N=np.arange(len(label_N)),
            captions=self.names,
            image_NE=np.concatenate(parts),
            caption_ME=self.classifier(state),
            pairs_P2=np.stack([np.arange(len(label_N)), label_N], axis=1),
            scale=self._env.scale(state.params),
        )

    def _labels(self, batch: embed.Batch) -> np.ndarray:
        label_B = np.asarray(batch.features[self._label], np.int64)
        wrong = label_B[(label_B < 0) | (label_B >= len(self.names))]
        if len(wrong):
            raise self._data.error(
                f"{self._label}={wrong[0]} has no class name; there are {len(self.names)} names"
            )
        return label_B

    def _prompts(self) -> list[str]:
        return wording.prompts(self.names, self._sentences, canonicalize=self._canonicalize)

    def _by_group(
        self, id_N: np.ndarray, hit_N: np.ndarray, group_N: np.ndarray
    ) -> Iterator[tuple[str, Outcome]]:
        for index, group in enumerate(self._groups):
            for name, mine_N in (
                (f"top1/{wording.slug(group)}", group_N == index),
                (f"top1/not_{wording.slug(group)}", (group_N != index) & (group in self._without)),
            ):
                if np.any(mine_N):
                    yield name, Outcome.mean(id_N[mine_N], hit_N[mine_N])


def _class_names(data: Dataset, label: str, source: str | Sequence[str] | None) -> tuple[str, ...]:
    """The given names, checked against the dataset's own number, or the dataset's names."""
    if source is None:
        return data.class_names(label)
    names = wording.class_names(source)
    own = data.num_classes(label)
    if own is not None and own != len(names):
        raise data.error(f"{len(names)} class names for {own} classes of {label!r}")
    return names
