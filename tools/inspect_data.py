"""The command clipa-inspect without installation; see clipa_jax/commands/inspect.py."""

from checkout import start

if __name__ == "__main__":
    start("inspect")
