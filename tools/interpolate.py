"""The command clipa-interpolate without installation; see clipa_jax/commands/interpolate.py."""

from checkout import start

if __name__ == "__main__":
    start("interpolate")
