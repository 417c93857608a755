"""The one rule for captions: which values of a record are text, and which field has them.

Legal are text (str or bytes), lists of text, and objects or lists of objects that hold a caption
under one of `NAMES`. Numbers, booleans, NaN and other objects are no captions. The first of the
names with a caption that is not blank counts.
"""

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

NAMES = ("captions", "caption", "txt", "text", "TEXT", "title")
SEPARATOR = b"\0"  # between the captions of a record; a space inside them


def texts(value: Any) -> list[bytes]:
    """The captions in a value, as UTF-8 if they are valid text; blank ones are left out."""
    if isinstance(value, str | bytes):
        text = without_mark(encoded(value))
        return [text] if text.strip() else []
    if isinstance(value, Mapping):
        return of_fields(value)
    if isinstance(value, list | tuple | np.ndarray):
        legal = (item for item in value if isinstance(item, str | bytes | Mapping))
        return [text for item in legal for text in texts(item)]
    return []


def of_fields(fields: Mapping[str, Any], names: Sequence[str] = NAMES) -> list[bytes]:
    """The captions of a record, from the first of the names that has any."""
    return next(filter(None, (texts(fields.get(name)) for name in names)), [])


def of_json(text: bytes) -> list[bytes]:
    """The captions of a JSON document; none if it is not valid."""
    try:
        return texts(json.loads(without_mark(text).decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return []


def without_mark(text: bytes) -> bytes:
    """Text without the byte order mark that editors on Windows begin files with, as UTF-8."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in text:
        return text.decode("utf-16", "replace").encode()
    return text.removeprefix(codecs.BOM_UTF8)


def joined(captions: Iterable[bytes]) -> bytes:
    """Captions as one string of a record."""
    return SEPARATOR.join(caption.replace(SEPARATOR, b" ") for caption in captions)


def encoded(value: Any) -> bytes:
    """A value as bytes: text as UTF-8, bytes that were not valid as they were, None as nothing.

    Half of a surrogate pair becomes U+FFFD.
    """
    if isinstance(value, bytes):
        return value
    text = "" if value is None else str(value)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
