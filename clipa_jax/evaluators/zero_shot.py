"""Zero-shot classification: each picture against the text of every class.

B batch, C classes, E embedding.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from clipa_jax.errors import nearest
from clipa_jax.evaluators import classification, embed, tables
from clipa_jax.evaluators import prompts as wording
from clipa_jax.evaluators import task as question
from clipa_jax.evaluators.context import About, Environment, Evaluator, HasParams
from clipa_jax.evaluators.dataset import Dataset
from clipa_jax.evaluators.outcome import Outcome, unique_ids
from clipa_jax.evaluators.qualitative import Gallery


class ZeroShot(Evaluator):
    """Top-1, top-5 and mean per-class recall over all classes, as shares in [0, 1].

    `top5` is reported for more than five classes. `mean_recall` leaves out classes that the
    split has no picture of, and there is none where pictures have several classes: then any of
    them is right.

    Args:
      env: encoders and defaults.
      name: the evaluator's name in the config, for messages.
      dataset: a name in the catalogue (`tables/datasets.json`), e.g. "imagenet1k", which then
        says what is not given of the next eight; None where the data is given.
      root: a folder with data sets, for `dataset`; "" for those of TFDS alone.
      source: the data, e.g. "tfds:data/emoji/1.0.0".
      split: e.g. "heldout_vendor".
      label: the feature that holds the class, an integer, or classes, a list of them.
      classes: names of the classes by label: a tuple, a data set of the tables, or the path of a
        JSON file; None for the names that the data gives.
      templates: a name in `evaluators/prompts/`, a data set of the tables, the path of a JSON
        file, or a tuple of sentences with `{}` for the class name; None for those that the data
        brings, "plain" where it brings none.
      metric: accuracy, or mean_average_precision for pictures with several right classes.
      outside: what happens to pictures of no class: "error", or "leave_out".
      language: of names and sentences from the tables, see `tables`.
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
        dataset: str | None = None,
        root: str = "",
        source: str | None = None,
        split: str | None = None,
        label: str | None = None,
        classes: str | Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        metric: str | None = None,
        outside: str | None = None,
        language: str = tables.ENGLISH,
        canonicalize: bool = False,
        by: str | None = None,
        without: Sequence[str] = (),
        preprocess: str | None = None,
        batch_size: int = 256,
    ):
        given = {"source": source, "split": split, "label": label, "classes": classes}
        given |= {"templates": templates, "metric": metric, "outside": outside}
        task = question.ask(name, dataset, root, given, language)
        self._env = env
        self._data = Dataset.open(
            env,
            name,
            task.entry.source,
            task.entry.split,
            preprocess=preprocess,
            batch_size=batch_size,
            features=tuple(dict.fromkeys(filter(None, (task.entry.label, by, "id")))),
        )
        self.names, self._labels = task.classes(self._data)
        self._metric = task.metric
        self._by = by
        self._groups = self._data.class_names(by) if by else ()
        if by and not self._metric.hits:
            raise self._data.error(f"by={by!r} needs metric=accuracy")
        for group in without:
            if group not in self._groups:
                options = self._groups or ("by=<feature> must be set",)
                raise self._data.error(
                    f"without={group!r}: no such group; {nearest(group, options)}"
                )
        self._without = tuple(without)
        self._sentences = task.sentences(self._data)
        self._canonicalize = canonicalize

    def about(self) -> About:
        """What is evaluated, and the prompts of all classes."""
        prompts = wording.prompts(self.names, self._sentences, canonicalize=self._canonicalize)
        return self._data.about(prompts)

    def outcomes(self, state: HasParams) -> Iterator[tuple[str, Outcome]]:
        """Yields the metrics for the parameters of `state`; a sample is a picture."""
        class_CE = self.classifier(state)
        parts, groups, ids = [], [], []
        for batch in embed.images(self._env.encoders, state.params, self._data.batches()):
            right_BC = self._labels.of(batch)
            kept_B = np.asarray(right_BC.any(axis=1) | self._metric.empty)
            score_BC = batch.image_BE @ class_CE.T
            parts.append(self._metric.of_batch(score_BC[kept_B], right_BC[kept_B]))
            features = batch.only(kept_B).features
            ids += features["id"]
            groups += features[self._by] if self._by else []
        if not ids:
            raise self._data.error("no pictures")
        rows, id_N = classification.joined(parts), np.asarray(unique_ids(ids))
        yield from self._metric.outcomes(id_N, rows, len(self.names))
        if self._metric.hits:
            yield from self._by_group(id_N, self._metric.hits(rows), np.asarray(groups))

    def classifier(self, state: HasParams) -> np.ndarray:
        """Unit-length embeddings of the classes, float32 (C, E)."""
        return self._env.class_embeddings.of(
            state.params,
            self.names,
            self._sentences,
            canonicalize=self._canonicalize,
            batch_size=self._data.batch_size,
        )

    def gallery(self, state: HasParams) -> Gallery:
        """All pictures of some class, and all class names, as `state` embeds them."""
        parts, pairs, rows = [], [], []
        seen = here = 0  # pictures before this batch: of the split, and of the gallery
        for batch in embed.images(self._env.encoders, state.params, self._data.batches()):
            right_BC = self._labels.of(batch)
            some_B = np.asarray(right_BC.any(axis=1))
            parts.append(batch.image_BE[some_B])
            pairs.append(np.argwhere(right_BC[some_B]) + [here, 0])
            rows.append(np.flatnonzero(some_B) + seen)
            seen, here = seen + len(some_B), here + int(some_B.sum())
        if not here:
            raise self._data.error("no pictures")
        return Gallery(
            data=self._data,
            row_N=np.concatenate(rows),
            captions=self.names,
            image_NE=np.concatenate(parts),
            caption_ME=self.classifier(state),
            pairs_P2=np.concatenate(pairs),
            scale=self._env.scale(state.params),
        )

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
