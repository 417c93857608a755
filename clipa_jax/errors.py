"""Errors a user can act on, and the nearest-name hints inside them.

Every error that bad input can cause is a `UserError`: one sentence that says what
came, what was expected and what to do. The command lines print the sentence and
exit with status 1; library callers catch it like any `ValueError`.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that cannot be used; the message is written for the person who gave it."""


class ConfigError(UserError):
    """A config key or value that cannot be used."""


class DataError(UserError):
    """Data that is missing, unreadable or of the wrong form."""


class MissingData(DataError):
    """Data that is not where it was looked for.

    Args:
      sentence: for the person who asked for it.
      dataset: which, as it was asked for.
      looked: the path or pattern where it was looked for.
      command: a shell command that would make it; "" where there is no such.
    """

    def __init__(self, sentence: str, *, dataset: str, looked: str, command: str = ""):
        super().__init__(sentence)
        self.dataset, self.looked, self.command = dataset, looked, command

    def of(self, who: str) -> "MissingData":
        """The same, where the sentence begins with who needs it."""
        sentence = f"{who}: {self}"
        return MissingData(sentence, dataset=self.dataset, looked=self.looked, command=self.command)


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or does not fit."""


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint that names the option most like `name`, else lists the options.

    >>> nearest("batchsize", ["batch_size", "seed"])
    'nearest: batch_size'
    """
    options = sorted(set(options))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"nearest: {close[0]}"
    return "legal: " + (", ".join(options) if options else "none")


def unknown(kind: str, name: str, options: Iterable[str]) -> str:
    """The sentence for a name that is not among the legal ones."""
    return f"unknown {kind} {name!r}; {nearest(name, options)}"
