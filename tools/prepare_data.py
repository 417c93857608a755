"""The command clipa-prepare without installation; see clipa_jax/commands/prepare.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.prepare import start

if __name__ == "__main__":
    start()
