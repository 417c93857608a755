"""The command clipa-train-vocab without installation; see clipa_jax/commands/captions.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.captions import start_train_vocab

if __name__ == "__main__":
    start_train_vocab()
