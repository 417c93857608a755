"""Durations in samples, steps, epochs or percent of the run: one idiom.

A duration `total` is given by exactly one of the keys `total_examples`,
`total_steps`, `total_epochs`; others such as `warmup`, `log`, `eval` also by
`*_percent`. The unset forms are None, so that every form can be set from the shell.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

from clipa_jax.errors import ConfigError

UNITS = ("examples", "steps", "epochs", "percent")


@dataclass(frozen=True)
class Durations:
    """A stage's durations in steps; 0 means never.

    `batch_size` is global.
    """

    batch_size: int
    total_steps: int
    warmup_steps: int
    log_steps: int
    eval_steps: int
    checkpoint_steps: int

    @property
    def total_examples(self) -> int:
        return self.total_steps * self.batch_size


def to_steps(
    config: Any,
    name: str,
    *,
    batch_size: int,
    num_examples: int | None = None,
    total_steps: int | None = None,
) -> int:
    """The duration `name`, such as "total" or "eval", in whole steps, rounded down.

    `<name>_epochs` needs the examples of an epoch, `<name>_percent` the steps of the run. Raises
    `ConfigError` if none or several forms are set, or a form needs an unknown length.
    """
    keys = [f"{name}_{unit}" for unit in UNITS if f"{name}_{unit}" in config]
    given = {key: config[key] for key in keys}  # reads all, so that none counts as ignored
    given = {key: value for key, value in given.items() if value is not None}
    if len(given) != 1:
        got = ", ".join(f"{key}={value}" for key, value in given.items()) or "none"
        raise ConfigError(f"exactly one of {', '.join(keys)} must be set; got: {got}")
    (key, value), unit = next(iter(given.items())), next(iter(given)).removeprefix(f"{name}_")
    if value < 0 or not math.isfinite(value):
        raise ConfigError(f"{key}={value} must be a finite number, 0 or more")
    if unit == "epochs" and not num_examples:
        raise ConfigError(f"{key} needs data of known length; set {name}_examples or {name}_steps")
    if unit == "percent" and total_steps is None:
        raise ConfigError(f"{key} needs the length of the run; set another form")
    steps = {
        "steps": lambda: value,
        "examples": lambda: value / batch_size,
        "epochs": lambda: value * (num_examples or 0) / batch_size,
        "percent": lambda: value / 100 * (total_steps or 0),
    }[unit]()
    # Rounded down as in the released code, whose H/14 has 195,490 steps and not 195,491; the
    # small term is for quotients such as 28.999999999999996. A positive duration is at least 1.
    return max(math.floor(steps + 1e-6), 1) if value else 0


def resolve(config: Any, *, batch_size: int, num_examples: int | None) -> Durations:
    """The stage's durations in steps; `num_examples` of an epoch is None when unknown."""
    to = functools.partial(to_steps, config, batch_size=batch_size, num_examples=num_examples)
    total = to("total")
    if total < 1:
        raise ConfigError(f"the run has {total} steps; set total_examples or total_steps above 0")
    rest = {
        f"{name}_steps": to(name, total_steps=total)
        for name in ("warmup", "log", "eval", "checkpoint")
    }
    if rest["warmup_steps"] > total:
        raise ConfigError(
            f"warm-up takes {rest['warmup_steps']} steps, the whole run only {total}; shorten it "
            "(for example --config.warmup_percent=5)"
        )
    return Durations(batch_size=batch_size, total_steps=total, **rest)


def due(step: int, every: int) -> bool:
    """Whether something with an interval of `every` steps, 0 for never, is due after `step`."""
    return every > 0 and step % every == 0


def override_siblings(config: Any, overridden: list[str]) -> None:
    """Unsets the other units of overridden durations: `total_steps=10` unsets `total_examples`.

    `config`, a `ConfigDict`, is changed in place; `overridden` are the full names of keys set on
    the command line. Raises `ConfigError` if two units of one duration were set there.
    """
    for name in overridden:
        *parents, leaf = name.split(".")
        stem, _, unit = leaf.rpartition("_")
        if unit not in UNITS or not stem:
            continue
        section = config
        for parent in parents:
            section = section[parent]
        for other in UNITS:
            sibling = f"{stem}_{other}"
            if other == unit or sibling not in section:
                continue
            if ".".join([*parents, sibling]) in overridden and section[leaf] is not None:
                raise ConfigError(f"both {leaf} and {sibling} are set on the command line")
            section[sibling] = None
