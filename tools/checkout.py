"""Makes clipa_jax importable from this checkout, for the scripts beside this file."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def start(command: str) -> None:
    """Runs a command: a module of clipa_jax/commands, or `module:function` in it."""
    module, _, function = command.partition(":")
    getattr(importlib.import_module(f"clipa_jax.commands.{module}"), function or "start")()
