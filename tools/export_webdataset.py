"""clipa-export-webdataset without installation; see clipa_jax/commands/export_webdataset.py."""

from checkout import start

if __name__ == "__main__":
    start("export_webdataset")
