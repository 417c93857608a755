"""Read a config so that a key that nothing reads is an error.

`Settings` is a read-only view on a `ConfigDict` that records which leaves were read. The trainer
builds everything from one `Settings`, then calls `check_all_read`: a key that nothing read stops
the run before any work. Misspelled overrides on the command line are refused earlier, by
`runtime/arguments.py`. `Settings.call` passes a section to a function as keyword arguments, so
that the function's signature is the schema of that section.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from clipa_jax.errors import ConfigError, nearest, unknown

T = TypeVar("T")


class Settings:
    """A section of a config, with attribute access and a record of the leaves that were read.

    `path` is its full name, for error messages.
    """

    path: str

    def __init__(self, config: ConfigDict | Mapping[str, Any], path: str = "config"):
        self._values: dict[str, Any] = {}
        self.path = path
        self._read: set[str] = set()
        for key in config:
            value = config[key]
            if isinstance(value, ConfigDict | Mapping):
                value = Settings(value, f"{path}.{key}")
            self._values[key] = value

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self[key]

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise ConfigError(
                f"{self.path}.{key} is needed but not in the config; {nearest(key, self._values)}"
            )
        self._read.add(key)
        return self._values[key]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __repr__(self) -> str:
        return f"Settings({self.path}: {', '.join(self._values)})"

    def as_dict(self) -> dict[str, Any]:
        """All values below this section as plain dicts; marks them as read."""
        return {key: self._plain(key) for key in self._values}

    def call(self, function: Callable[..., T], /, *, skip: tuple[str, ...] = (), **extra: Any) -> T:
        """Calls `function` with this section, without the keys in `skip`, as keyword arguments.

        The config may not name those of `extra`. Raises `ConfigError` if the function does not take
        a key, or a key that it needs is missing.
        """
        return self.bind(function, skip=skip, later=tuple(extra))(**extra)

    def bind(
        self,
        function: Callable[..., T],
        /,
        *,
        skip: tuple[str, ...] = (),
        later: tuple[str, ...] = (),
    ) -> Callable[..., T]:
        """`call` in two steps: checks the section now, returns `function` with its arguments bound.

        The config may not name the arguments in `later`.
        """
        legal = inspect.signature(function).parameters
        given = {key: self._plain(key) for key in self._values if key not in skip}
        for key in given:
            if key not in legal or key in later:
                options = [name for name in legal if name not in later]
                raise ConfigError(f"unknown key {self.path}.{key}; {nearest(key, options)}")
        for name, parameter in legal.items():
            required = parameter.default is parameter.empty
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if required and named and name not in given and name not in later:
                raise ConfigError(
                    f"{self.path}.{name} is needed but not in the config; {nearest(name, given)}"
                )
        return functools.partial(function, **given)

    def _plain(self, key: str) -> Any:
        value = self[key]
        return value.as_dict() if isinstance(value, Settings) else value

    def unread(self) -> list[str]:
        """Full names of the leaves that nothing has read."""
        return [name for name, was_read in self._leaves() if not was_read]

    def _leaves(self) -> Iterator[tuple[str, bool]]:
        for key, value in self._values.items():
            if isinstance(value, Settings):
                yield from value._leaves()
            else:
                yield f"{self.path}.{key}", key in self._read

    def check_all_read(self) -> None:
        """Raises `ConfigError` if a key of the config was read by nothing."""
        unread = self.unread()
        if unread:
            read = [name for name, was_read in self._leaves() if was_read]
            raise ConfigError(f"nothing reads {unread[0]}; {nearest(unread[0], read)}")


def choice(config: Settings, key: str, options: Iterable[str]) -> str:
    """The value of a key that names one of several options; `ConfigError` for any other."""
    value, options = config[key], list(options)
    if value not in options:
        raise ConfigError(unknown(f"{config.path}.{key}", str(value), options))
    return value
