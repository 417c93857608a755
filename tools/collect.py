"""The command clipa-collect without installation; see clipa_jax/commands/collect.py."""

from checkout import start

if __name__ == "__main__":
    start("collect")
