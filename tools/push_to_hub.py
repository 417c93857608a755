"""The command clipa-push-to-hub without installation; see clipa_jax/commands/push_to_hub.py."""

from checkout import start

if __name__ == "__main__":
    start("push_to_hub")
