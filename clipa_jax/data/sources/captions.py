"""The one rule for captions: which values of a record are text, and which field has them.

Legal are text (str or bytes), lists of text, and objects or lists of objects that hold a caption
under one of `NAMES`. Numbers, booleans, NaN and other objects are no captions. The first of the
names with a caption that is not blank counts, unless `input.caption` names the field, or several
with their shares (`Choice`).
"""

import codecs
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipa_jax.errors import ConfigError

JSON = "json"
NAMES = ("captions", "caption", "txt", "text", "TEXT", "title")
SEPARATOR = b"\0"  # between the captions of a record; a space inside them
FIELDS = b"\1"  # likewise, between fields of captions of which one is drawn


@dataclass(frozen=True)
class Choice:
    """The fields that hold captions, by name: the first of them that has any counts or, if they
    have weights, one that is drawn for each sample among those that have any."""

    names: tuple[str, ...] = NAMES
    weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, value: str | Mapping[str, float] | None) -> "Choice":
        """From a name, or names with weights of any sum, as a mapping or JSON; none for `NAMES`."""
        try:
            fields: Any = json.loads(value) if isinstance(value, str) and "{" in value else value
            if not fields:
                return cls()
            if isinstance(fields, str):
                return cls((fields,))
            names, weights = tuple(fields), tuple(map(float, fields.values()))
        except (ValueError, TypeError, AttributeError):
            names, weights = (), ()
        if not names or not all(0 < weight < float("inf") for weight in weights):
            raise ConfigError(
                f"caption={value!r}: expected the name of a field, or names with positive weights "
                f'such as {{"re_caption": 0.7, "text": 0.3}}'
            )
        return cls(names, weights if len(names) > 1 else ())

    @property
    def is_usual(self) -> bool:
        """Whether no field is named."""
        return self.names is NAMES

    def possible(self, present: Collection[str]) -> bool:
        """Whether samples with these fields can have captions."""
        return (all if self.weights else any)(name in present for name in self.names)

    def record(self, fields: Mapping[str, Any]) -> bytes:
        """The captions of a sample as one string of a record."""
        groups = (texts(fields.get(name)) for name in self.names)
        if not self.weights:
            return joined(_first(groups))
        return FIELDS.join(joined(group).replace(FIELDS, b" ") for group in groups)


def texts(value: Any) -> list[bytes]:
    """The captions in a value, as UTF-8 if they are valid text; blank ones are left out."""
    if isinstance(value, str | bytes):
        text = without_mark(encoded(value))
        return [text] if text.strip() else []
    if isinstance(value, Mapping):
        return _first(texts(value.get(name)) for name in NAMES)
    if isinstance(value, list | tuple | np.ndarray):
        legal = (item for item in value if isinstance(item, str | bytes | Mapping))
        return [text for item in legal for text in texts(item)]
    return []


def _first(groups: Iterable[list[bytes]]) -> list[bytes]:
    """The captions of the first field that has any."""
    return next(filter(None, groups), [])


def _document(text: bytes) -> Any:
    """The content of a JSON document; None if it is not valid."""
    try:
        return json.loads(without_mark(text).decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def of_files(contents: Mapping[str, bytes], choice: Choice) -> bytes:
    """The captions in files beside a picture, by their suffixes in order, as `Choice.record` gives
    them; fields that are in no file of their own are looked for in the JSON document."""
    document = _document(contents.get(JSON, b""))
    if choice.is_usual:
        groups = (texts(document if k == JSON else text) for k, text in contents.items())
        return joined(_first(groups))
    fields = document if isinstance(document, Mapping) else {}
    return choice.record({**fields, **{k: text for k, text in contents.items() if texts(text)}})


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
