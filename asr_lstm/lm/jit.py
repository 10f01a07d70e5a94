"""Loops compiled by numba. It takes a second to import: so do the modules that use this, when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Decorate a function of arrays and numbers: compiled at its first call, free of the interpreter's lock.

    The machine code is kept beside the module, else in the user's cache, else for this process alone. It is made
    again when its module changes, but not when only another one does whose compiled functions it calls: whoever
    changes such a function deletes the package's __pycache__.
    """
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither place can be written
        return cast(_Function, numba.njit(nogil=True)(function))
