"""The command clipa-benchmark without installation; see clipa_jax/commands/benchmark.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.benchmark import start

if __name__ == "__main__":
    start()
