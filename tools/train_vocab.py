"""The command clipa-train-vocab without installation; see clipa_jax/commands/captions.py."""

from checkout import start

if __name__ == "__main__":
    start("captions:start_train_vocab")
