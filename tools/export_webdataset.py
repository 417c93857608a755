"""clipa-export-webdataset without installation; see clipa_jax/commands/export_webdataset.py."""

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.commands.export_webdataset import start

if __name__ == "__main__":
    start()
