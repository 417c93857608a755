"""The command clipa-benchmark without installation; see clipa_jax/commands/benchmark.py."""

from checkout import start

if __name__ == "__main__":
    start("benchmark")
