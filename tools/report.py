"""The command clipa-report without installation; see clipa_jax/commands/report.py."""

from checkout import start

if __name__ == "__main__":
    start("report")
