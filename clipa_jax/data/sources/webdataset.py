"""WebDataset: tar files in which the members of a sample follow each other."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from clipa_jax.data.sources import base, fields, files, index, tar
from clipa_jax.errors import DataError

_JSON = "json"
_TEXTS = ("txt", "caption", "text", "captions")
_LABELS = ("cls", "cls.txt", "label")
_SPAN = 8 << 20  # bytes read at once, unless one sample has more
_GAP = 64 << 10  # bytes that nobody asked for, read to save a call
_LARGEST = 256 << 20  # bytes of a member, beyond all measure for a picture


class WebdatasetSource(fields.FieldSource):
    """Tar files with pictures (.jpg, .jpeg, .png, .webp, .gif, .bmp) and captions (.txt,
    .caption, or .json with a caption inside).

    Args:
      where: patterns, e.g. "/data/{00000..00012}.tar,gs://bucket/laion/*.tar".
      split: not used; the files are the split.
      wanted: features that records are to have: suffixes such as "cls".

    Raises:
      DataError: no files match, a file that cannot be read, or no pictures.
    """

    random_access = False  # possible, yet neighbours are read many times as fast

    kind = "webdataset"

    def __init__(self, where: str, split: str, wanted: Sequence[str] = ()):
        self.spec, self.split = f"{self.kind}:{where}", split
        paths = self._paths(where)
        scans = index.build(paths, tar.scan, tables=True)
        self.shards = tuple(base.Shard(p, s.length) for p, s in zip(paths, scans, strict=True))
        self._names = [scan.names for scan in scans]
        there = {name for names in self._names for name in names} - {tar.KEY}
        if not self.num_examples:
            raise base.empty(self.spec, split)
        if tar.IMAGE not in there:
            raise DataError(
                f"{self.spec}: no member with a suffix of {', '.join(base.IMAGE_SUFFIXES)}; "
                f"there are {', '.join(sorted(there)) or '(none)'}"
            )
        self.has_captions = bool(there & {*_TEXTS, _JSON})
        others = sorted(there - {tar.IMAGE, _JSON, *_TEXTS})
        super().__init__(wanted, {n: int if n in _LABELS else str for n in others})

    def _paths(self, where: str) -> list[str]:
        """The files, in order."""
        return files.expand(where, self.spec)

    def rows(self, shard: int, indices: np.ndarray) -> Iterable[list[bytes]]:
        path = self.shards[shard].path
        place_XF2, json_X = self._places(shard, index.table(path)[indices])
        for begin, stop, first, last in _spans(place_XF2):
            data = files.read(path, first, last - first)
            for row, json in zip(place_XF2[begin:stop].tolist(), json_X[begin:stop], strict=True):
                yield _record(row, json, data, first)

    def _places(self, shard: int, row_XN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offset and size of each field of a record, (X, F, 2), from rows of a shard's table; and
        whether the captions (X,) are JSON."""
        names, place_XN2 = self._names[shard], row_XN.reshape(len(row_XN), -1, 2)

        def column(name: str) -> np.ndarray:
            if name in names:
                return place_XN2[:, names.index(name)]
            return np.broadcast_to((tar.MISSING, 0), (len(row_XN), 2))

        text_X2, json_X = column(_JSON), np.ones(len(row_XN), bool)
        for name in reversed(_TEXTS):  # the first one that a sample has
            there_X = column(name)[:, 0] != tar.MISSING
            text_X2 = np.where(there_X[:, None], column(name), text_X2)
            json_X &= ~there_X
        rest = [column(name) for name in self._wanted]
        return np.stack([column(tar.IMAGE), text_X2, column(tar.KEY), *rest], 1), json_X


def _record(places: list[list[int]], json: bool, data: bytes, first: int) -> list[bytes]:
    """The record of a sample, from bytes of the file that begin at `first`."""
    found = []
    if max(size for _, size in places) > _LARGEST:
        return []
    for offset, size in places:
        found.append(data[offset - first : offset - first + size] if offset != tar.MISSING else b"")
        if len(found[-1]) != size:
            return []  # the file ends before
    image, text, *rest = found
    return [image, fields.captions_of_json(text) if json else fields.captions(text), *rest]


def _spans(place_XF2: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Cuts samples into runs that lie close together: [begin, stop), and their bytes [first,
    last) of the file, which are read at once."""
    offset_XF, there_XF = place_XF2[..., 0], place_XF2[..., 0] != tar.MISSING
    first_X = np.where(there_XF, offset_XF, np.iinfo(np.int64).max).min(1)
    last_X = np.where(there_XF, place_XF2.sum(-1), 0).max(1)
    last_X = np.clip(last_X, first_X, first_X + _LARGEST)
    firsts, lasts, begin = first_X.tolist(), last_X.tolist(), 0
    for stop in range(1, len(firsts) + 1):
        if (
            stop < len(firsts)
            and lasts[stop - 1] <= firsts[stop] <= lasts[stop - 1] + _GAP
            and lasts[stop] - firsts[begin] <= _SPAN
        ):
            continue
        yield begin, stop, firsts[begin], lasts[stop - 1]
        begin = stop
