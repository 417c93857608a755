"""The command clipa-count-words without installation; see clipa_jax/commands/captions.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.captions import start_count_words

if __name__ == "__main__":
    start_count_words()
