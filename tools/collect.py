"""The command clipa-collect without installation; see clipa_jax/commands/collect.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.collect import start

if __name__ == "__main__":
    start()
