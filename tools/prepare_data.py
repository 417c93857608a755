"""The command clipa-prepare without installation; see clipa_jax/commands/prepare.py."""

from checkout import start

if __name__ == "__main__":
    start("prepare")
