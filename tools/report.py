"""The command clipa-report without installation; see clipa_jax/commands/report.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.report import start

if __name__ == "__main__":
    start()
