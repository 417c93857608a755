"""WebDataset: tar files in which the members of a sample follow each other."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from clipa_jax.data.sources import base, captions, fields, index, tar
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

_TEXTS = ("txt", "caption", "text", "captions")
_LABELS = ("cls", "cls.txt", "label")
_SPAN = 8 << 20  # bytes read at once, unless one sample has more
_GAP = 64 << 10  # unwanted bytes that are read to save a call
_LARGEST = 256 << 20  # bytes of a member
_LOOKED_AT = storage.SCANNED // 2  # bytes of a file that tell which members there are


class _Item(NamedTuple):
    """A sample as it is read: places (offset, size) of its members, in bytes of the file that
    begin at `first`; the last ones are `texts`."""

    places: list[list[int]]
    texts: tuple[str, ...]
    data: bytes
    first: int


_NOTHING = _Item([], (), b"", 0)  # in place of a sample that is on record and not in the file


class WebdatasetSource(fields.IndexedSource):
    """Tar files with pictures (`base.IMAGE_SUFFIXES`) and captions (.txt, .caption, .text,
    .captions, or .json with a caption inside; the first that is not blank). Features are further
    suffixes, such as "cls".

    Random access is possible, yet neighbors are read many times as fast.
    """

    kind = "webdataset"

    def __init__(self, where: str, split: str, wanted: Sequence[str], caption: captions.Choice):
        self.caption = caption
        self.spec, self.split = f"{self.kind}:{where}", split
        self.shards, names = index.shards(self._files(where), tar.scan)
        unread = [path for path in self.filled_files() if path not in names]
        looked = storage.in_parallel(_first_names, base.spread(unread))
        members = {name for known in (*names.values(), *looked) for name in known} - {tar.KEY}
        if tar.IMAGE not in members:
            raise DataError(
                f"{self.spec}: no member with a suffix of {', '.join(base.IMAGE_SUFFIXES)}; "
                f"there are {', '.join(sorted(members)) or '(none)'}; a suffix is all behind the "
                f"first dot of a name"
            )
        texts = _TEXTS if caption.is_usual else caption.names
        self._texts = (*texts, captions.JSON)
        self.has_captions = captions.JSON in members or (
            bool(members & {*texts}) if caption.is_usual else caption.possible(members)
        )
        others = sorted(members - {tar.IMAGE, *self._texts})
        super().__init__(wanted, {n: int if n in _LABELS else str for n in others})

    def _files(self, where: str) -> list[storage.File]:
        """The files, in order."""
        return storage.expand(where, self.spec)

    def items(self, shard: int, indices: np.ndarray) -> Iterable[_Item]:
        path, expected = self.shards[shard].path, self.shards[shard].length
        scan = index.opened(path, tar.scan)
        if scan.length != expected:  # which came from a record beside the data
            _warn_of_length(path, scan.length, expected)
        inside = indices < scan.length
        items = self._items(path, scan, indices[inside])
        return (next(items) if present else _NOTHING for present in inside.tolist())

    def _items(self, path: str, scan: index.Scan, indices: np.ndarray) -> Iterator[_Item]:
        names, place_XN2 = scan.names, scan.table[indices].reshape(len(indices), -1, 2)
        texts = tuple(name for name in self._texts if name in names)
        columns = [
            place_XN2[:, names.index(name)]
            if name in names
            else np.broadcast_to((tar.MISSING, 0), (len(indices), 2))
            for name in (tar.IMAGE, tar.KEY, *self._wanted, *texts)
        ]
        place_XF2 = np.stack(columns, 1)
        for begin, stop, first, last in _spans(place_XF2):
            try:
                data = storage.read(path, first, last - first)
            except OSError as error:
                logging.warning("%s: %s", path, error)
                data = b""
            for places in place_XF2[begin:stop].tolist():
                yield _Item(places, texts, data, first)

    def record(self, item: _Item) -> list[bytes]:
        if item is _NOTHING:
            return []
        content = _content(item)
        image, key, *rest = content
        wanted, texts = rest[: len(self._wanted)], rest[len(self._wanted) :]
        files = dict(zip(item.texts, texts, strict=True))
        return [image, captions.of_files(files, self.caption), key, *wanted]


def _first_names(path: str) -> Sequence[str]:
    """The names of the members at the beginning of a file, which one request reads."""
    try:
        return tar.scan(path, _LOOKED_AT).names
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _content(item: _Item) -> list[bytes]:
    """The members of a sample; empty for those that it lacks."""
    content = []
    for offset, size in item.places:
        if size > _LARGEST:
            raise ValueError(f"a member has {size} bytes; at most {_LARGEST} are read")
        begin = offset - item.first
        content.append(item.data[begin : begin + size] if offset != tar.MISSING else b"")
        if len(content[-1]) != size:
            raise ValueError("the file ends inside the sample")
    return content


def _spans(place_XF2: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Cuts samples into runs that lie close together: [begin, stop), and their bytes [first,
    last) of the file, which are read at once."""
    offset_XF = place_XF2[..., 0]
    present_XF = offset_XF != tar.MISSING
    first_X = np.where(present_XF, offset_XF, np.iinfo(np.int64).max).min(1)
    last_X = np.where(present_XF, place_XF2.sum(-1), 0).max(1)
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


@functools.cache
def _warn_of_length(path: str, length: int, expected: int) -> None:
    """Says once that a file has another length than the record beside it."""
    lost = "the rest is not read" if length > expected else "what is missing is unreadable"
    message = "%s has %d samples, %d are on record, and %s: correct or remove %s"
    record = "its entry in sizes.json or shardindex.json, or its _stats.json"
    logging.log_first_n(logging.WARNING, message, 20, path, length, expected, lost, record)
