from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import pytest

from asr_lstm.lm.jit import compiled


def test_without_a_place_for_machine_code_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = numba.njit

    def no_cache(*, cache: bool = False, **options: Any) -> Callable[..., Any]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)  # type: ignore[no-any-return]

    monkeypatch.setattr(numba, "njit", no_cache)

    def double(number: int) -> int:
        return 2 * number

    function = compiled(double)
    assert isinstance(function, numba.core.dispatcher.Dispatcher)
    assert function(21) == 42
