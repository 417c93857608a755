"""The command clipa-plan without installation; see clipa_jax/commands/plan.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.plan import start

if __name__ == "__main__":
    start()
