"""The command clipa-convert-from-torch without installation; see clipa_jax/commands/convert.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.convert import start_from_torch

if __name__ == "__main__":
    start_from_torch()
