"""Errors of the input, and hints at the nearest legal name.

Every error caused by bad input is a `UserError`: one sentence with what was given, what was
expected and what to do. Commands print it and exit with status 1; callers of the library catch it
as a `ValueError`.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that cannot be used; the message addresses the user."""


class ConfigError(UserError):
    """A config key or value that cannot be used."""


class DataError(UserError):
    """Data that is missing, unreadable or of the wrong form."""


class MissingData(DataError):
    """Data that does not exist: `looked` is the path or pattern that was searched.

    `dataset` is as requested, `command` a shell command that creates the data, or "".
    """

    def __init__(self, sentence: str, *, dataset: str, looked: str, command: str = ""):
        super().__init__(sentence)
        self.dataset, self.looked, self.command = dataset, looked, command

    def of(self, who: str) -> "MissingData":
        """The same error, with the user of the data before the sentence."""
        sentence = f"{who}: {self}"
        return MissingData(sentence, dataset=self.dataset, looked=self.looked, command=self.command)


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or does not fit."""


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint: the option most similar to `name`, else all options.

    >>> nearest("batchsize", ["batch_size", "seed"])
    'nearest: batch_size'
    """
    options = sorted(set(options))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"nearest: {close[0]}"
    return "legal: " + (", ".join(options) if options else "none")


def unknown(kind: str, name: str, options: Iterable[str]) -> str:
    """The message for a name that is not legal."""
    return f"unknown {kind} {name!r}; {nearest(name, options)}"


def install(extra: str) -> str:
    """The command that installs the packages of an extra: `tpu`, `gpu`, `torch`, `data`."""
    return f"pip install 'clipa_jax[{extra}]' (in a checkout: -r requirements-{extra}.txt)"
