"""The command clipa-search without installation; see clipa_jax/commands/search.py."""

from checkout import start

if __name__ == "__main__":
    start("search")
