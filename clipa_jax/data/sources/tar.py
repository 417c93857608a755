"""The offsets of the samples of a tar file, from its headers alone.

As in WebDataset, adjacent members with the same key, their path up to the first dot of the file
name, are one sample; the rest of the name is the kind of member.
Formats read: ustar, GNU long names and POSIX extended headers (pax), without compression.
"""

import itertools
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from absl import logging

from clipa_jax.data.sources.base import IMAGE_SUFFIXES
from clipa_jax.data.sources.index import Scan, refuse_compressed
from clipa_jax.data.sources.listing import is_hidden
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

BLOCK = 512
IMAGE, KEY = "image", "__key__"
MISSING = -1
_REGULAR = (b"0", b"\0", b"7")
_EXTENDED = (b"L", b"x", b"g")  # long names, headers of POSIX


class Member(NamedTuple):
    """A file inside a tar: its name, and the offsets and sizes of the name and the content."""

    name: str
    name_offset: int
    name_size: int
    offset: int
    size: int


class Damaged(ValueError):
    """Bytes that are not a header where one is expected."""


def scan(path: str, end: float = float("inf")) -> Scan:
    """The samples of a tar file, or of those members alone that begin before the byte `end`.

    Names are `image` for any image suffix, suffixes without the dot for the rest, and `__key__`;
    the table has offset and size for each name, offset -1 where a sample lacks it. A sample that
    is cut by the end of the file is counted; after a damaged header one more is counted, and the
    rest is lost.
    """
    grouped = _Samples()
    samples = grouped.samples
    damage = ""
    try:
        with storage.scan(path) as file:
            size = file.seek(0, os.SEEK_END)
            every = members(file, size)
            for member in itertools.takewhile(lambda member: member.name_offset < end, every):
                grouped.add(member)
    except ValueError as error:
        damage = str(error)
    grouped.check(path)
    if not samples:
        refuse_compressed(path)
    if damage:
        logging.warning("%s is damaged behind sample %d: %s", path, len(samples), damage)
        samples.append({KEY: (0, 0)})
    names = sorted({name for sample in samples for name in sample})
    rows = [[sample.get(name, (MISSING, 0)) for name in names] for sample in samples]
    table = np.array(rows, np.int64).reshape(len(samples), 2 * len(names))
    if samples and max(map(sum, samples[-1].values())) > size:
        logging.warning("%s is truncated inside sample %d", path, len(samples) - 1)
    return Scan(len(samples), tuple(names), table)


class _Samples:
    """Groups the members of a tar into samples, by name -> (offset, size)."""

    def __init__(self) -> None:
        self.samples: list[dict[str, tuple[int, int]]] = []
        self._keys: dict[str, None] = {}
        self._suffixes: set[str] = set()  # of the last sample
        self._repeated: list[str] = []
        self._apart: list[str] = []

    def add(self, member: Member) -> None:
        """Adds a member to the last sample, or to a new one if its key differs."""
        parts = split(member.name)
        if parts is None:
            return
        key, suffix = parts
        if not self._keys or key != next(reversed(self._keys)):
            if key in self._keys:
                self._apart.append(member.name)
                del self._keys[key]
            self._keys[key] = None
            self._suffixes = set()
            # The key as far as it lies in one piece: old headers cut long paths in two.
            behind = len(member.name.encode()) - len(key.encode())
            self.samples.append({KEY: (member.name_offset, member.name_size - behind)})
        name = IMAGE if suffix in IMAGE_SUFFIXES else suffix
        if suffix in self._suffixes:
            self._repeated.append(member.name)
        self._suffixes.add(suffix)
        self.samples[-1].setdefault(name, (member.offset, member.size))

    def check(self, path: str) -> None:
        """Warns of members that repeat, or that are apart from others of their key; more than one
        in a hundred raise `DataError`."""
        for names, fault in (
            (self._repeated, "members repeat the key and suffix of another one"),
            (self._apart, "members are apart from the others of their key"),
        ):
            if not names:
                continue
            message = (
                f"{path}: {len(names)} {fault}, the first is {names[0]}; expected all members of "
                f"a sample in a row, with a key (the name up to its first dot) of their own"
            )
            if 100 * len(names) > len(self.samples):
                raise DataError(message)
            logging.warning("%s", message)


def split(name: str) -> tuple[str, str] | None:
    """`a/b.seg.PNG` -> ("a/b", "seg.png"); None for what is not part of a sample."""
    if any(map(is_hidden, name.split("/"))):
        return None
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    if not dot or not stem or not suffix or (stem.startswith("__") and stem.endswith("__")):
        return None
    return folder + slash + stem, suffix.lower()


def members(file: BinaryIO, size: int) -> Iterator[Member]:
    """The regular files of a tar of `size` bytes, in order; `Damaged` at a header that is none."""
    at = 0
    while at + BLOCK <= size:
        file.seek(at)
        header = file.read(BLOCK)
        if not header.strip(b"\0"):
            return
        _check(header, at)
        kind = header[156:157]
        if kind in _EXTENDED:
            member, kind = _extended(file, at)
        else:
            member = Member(*_name(header, at), at + BLOCK, _number(header[124:136]))
        if kind in _REGULAR and not member.name.endswith("/"):
            yield member
        at = member.offset + -(-member.size // BLOCK) * BLOCK
    if at > size:
        return
    message = "%s, a tar of %d bytes, has no mark at its end: it may be truncated"
    logging.warning(message, file.name, size)


def _extended(file: BinaryIO, at: int) -> tuple[Member, bytes]:
    """The member whose name or size stands in blocks before its header, and its kind."""
    file.seek(at)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            info = tar.next()
    except tarfile.TarError as error:
        raise Damaged(f"no extended header at byte {at}: {error}") from None
    if info is None:
        raise Damaged(f"no header of a tar at byte {at}")
    file.seek(at)
    name = info.name.encode("utf8", "surrogateescape")
    place = at + file.read(info.offset_data - at).rfind(name)
    text = name.decode("utf8", "replace")
    return Member(text, place, len(name), info.offset_data, info.size), info.type


def _check(header: bytes, at: int) -> None:
    plain = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    try:
        if plain == _number(header[148:156]):
            return
    except ValueError:
        pass
    raise Damaged(f"no header of a tar at byte {at}")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256, for sizes from 8 GiB on
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def _name(header: bytes, at: int) -> tuple[str, int, int]:
    name = header[:100].split(b"\0")[0]
    folder = header[345:500].split(b"\0")[0] if header[257:262] == b"ustar" else b""
    # GNU's own format ends its mark in blanks and keeps other things where POSIX has folders.
    whole = name if not folder or header[257:265] == b"ustar  \0" else folder + b"/" + name
    return whole.decode("utf8", "replace"), at, len(name)
