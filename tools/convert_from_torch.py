"""The command clipa-convert-from-torch without installation; see clipa_jax/commands/convert.py."""

from checkout import start

if __name__ == "__main__":
    start("convert:start_from_torch")
