"""The packages that conversion needs besides clipa_jax's own."""

import importlib
from types import ModuleType

from clipa_jax.errors import UserError, install

INSTALL = install("torch")


def load(module: str) -> ModuleType:
    """Imports a module of `clipa_jax.convert`.

    Raises `UserError` if PyTorch or another package is missing, or if torch and torchvision come
    from builds that do not fit together.
    """
    try:
        return importlib.import_module(f"clipa_jax.convert.{module}")
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: {INSTALL}") from None
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        raise UserError(
            f"torch and torchvision are of different builds ({error}): install both from one "
            f"place, for example {INSTALL}"
        ) from None
