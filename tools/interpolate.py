"""The command clipa-interpolate without installation; see clipa_jax/commands/interpolate.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.interpolate import start

if __name__ == "__main__":
    start()
