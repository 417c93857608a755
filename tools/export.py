"""The command clipa-export without installation; see clipa_jax/commands/convert.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.convert import start_export

if __name__ == "__main__":
    start_export()
