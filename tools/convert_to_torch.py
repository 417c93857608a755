"""The command clipa-convert-to-torch without installation; see clipa_jax/commands/convert.py."""

from checkout import start

if __name__ == "__main__":
    start("convert:start_to_torch")
