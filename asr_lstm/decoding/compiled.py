"""The search's own way of compiling: like `asr_lstm.lm.jit`, and every function joined into its callers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Decorate a function of arrays and numbers: compiled at its first call, free of the interpreter's lock.

    Joined into its callers, because counting the references to a dozen arrays at each call would take as long as
    the search itself. The machine code is kept beside the module, else in the user's cache, else for this process
    alone.
    """
    options: dict[str, Any] = {"nogil": True, "forceinline": True}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither place can be written
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
