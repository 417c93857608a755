"""Pictures among the files of a folder."""

import collections
import os

from absl import logging

from clipa_jax.data.sources import base
from clipa_jax.runtime import storage

# Besides names that begin with a dot: of archives, of file servers, of what was deleted.
_HIDDEN = (
    "__MACOSX",
    "@eaDir",
    "@Recycle",
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
)


def pictures(folder: str, names: list[str], spec: str) -> list[str]:
    """The pictures among files below a folder; logs how many other files of each suffix there are.

    Captions beside pictures, `a.txt` of `a.jpg`, are not counted.
    """
    chosen = [name for name in names if is_picture(name)]
    captions = {os.path.splitext(name)[0] + ".txt" for name in chosen}
    others = collections.Counter(
        os.path.splitext(name)[1].lower() or "(no suffix)"
        for name in names
        if not is_picture(name) and name not in captions
    )
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
        logging.info("%s: %d pictures in %s; other files: %s", spec, len(chosen), folder, counts)
    return chosen


def visible(folder: str, spec: str) -> list[str]:
    """All files below a folder that are not hidden, relative to it, sorted; logs the others."""
    names = storage.walk(folder)
    shown = [name for name in names if not any(map(is_hidden, name.split("/")))]
    if len(shown) < len(names):
        number = len(names) - len(shown)
        logging.info("%s: %d hidden files in %s are left out", spec, number, folder)
    return shown


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's, such as `._a.jpg` or `__MACOSX`."""
    return (name.startswith(".") and name not in (".", "..")) or name in _HIDDEN


def is_picture(name: str) -> bool:
    """Whether the suffix of a name is that of a picture."""
    return os.path.splitext(name)[1].lower().removeprefix(".") in base.IMAGE_SUFFIXES
