"""The command clipa-verify without installation; see clipa_jax/commands/verify.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.verify import start

if __name__ == "__main__":
    start()
