"""The command clipa-search without installation; see clipa_jax/commands/search.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.search import start

if __name__ == "__main__":
    start()
