"""The command clipa-verify without installation; see clipa_jax/commands/verify.py."""

from checkout import start

if __name__ == "__main__":
    start("verify")
