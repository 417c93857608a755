"""The command clipa-push-to-hub without installation; see clipa_jax/commands/push_to_hub.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.push_to_hub import start

if __name__ == "__main__":
    start()
