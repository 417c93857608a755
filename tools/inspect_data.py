"""The command clipa-inspect without installation; see clipa_jax/commands/inspect.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.inspect import start

if __name__ == "__main__":
    start()
