"""Finding a function by its dotted name, for recipes and bundles that bring their own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asr_lstm.errors import ConfigError


def find_function(name: str, *, beside: Path | None = None) -> Callable[..., Any]:
    """Import `package.module.function`.

    Args:
        name: the dotted name.
        beside: a folder whose modules are found too.

    Raises:
        ConfigError: there is no such module or function.
    """
    if not isinstance(name, str):  # of a file that somebody edited
        raise ConfigError(f"{name!r} is not the dotted name of a function")
    module_name, _, function_name = name.rpartition(".")
    if beside is not None and (folder := str(beside.resolve())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: no dot, or one too many
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{name!r} cannot be imported ({reason}); put its module beside the recipe, install it, or set PYTHONPATH"
        ) from error
    if not callable(function):
        raise ConfigError(f"{name!r} is not a function")
    return function  # type: ignore[no-any-return]
