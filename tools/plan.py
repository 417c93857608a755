"""The command clipa-plan without installation; see clipa_jax/commands/plan.py."""

from checkout import start

if __name__ == "__main__":
    start("plan")
