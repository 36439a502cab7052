"""Imports an optional package, or says how to install it."""

from importlib import import_module
from types import ModuleType

from outweigh.errors import MissingExtra


def need(module: str, *, extra: str, feature: str) -> ModuleType:
    """The module, imported; `feature` names what the user wanted when it is missing.

    Raises:
        MissingExtra: the package of that name is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:  # installed but itself broken: its own traceback helps more
            raise
        raise MissingExtra(f"{feature} needs {module}. Run: pip install 'outweigh[{extra}]'") from None
