"""Which kernel runs the LSTM layers here: the compiled one, or plain torch and why."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from asr_lstm.doctor.checks import Check

_GET_COMPILER = (
    "apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), xcode-select --install (macOS)"
)
_SLOWER = "LSTM layers run in plain torch, about half as fast"


def check_kernel(*, build: bool = False) -> Iterator[Check]:
    """Whether the compiled kernel is, or will be, in use.

    Args:
        build: compile it now, where it isn't yet, and load it.
    """
    if os.environ.get("ASR_LSTM_KERNEL", "") in ("portable", "torch"):
        yield Check("kernel", "note", f"switched off; {_SLOWER}", "unset ASR_LSTM_KERNEL")
        return
    wanted = os.environ.get("CXX")
    compiler = shutil.which(wanted) if wanted else shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        missing = f"CXX names {wanted}, which is not there" if wanted else "no C++ compiler"
        yield Check(
            "kernel", "note", f"{missing}; {_SLOWER}", "correct or unset CXX" if wanted else _GET_COMPILER
        )
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "asr_lstm"
    yield Check("compiler", "ok", compiler)
    if build:
        yield _built(cache)
        return
    made = len(list(cache.glob("lstm-*.so")))
    text = (
        f"C++, {made} compiled in {cache}" if made else f"C++, to be compiled at first use (2 s) into {cache}"
    )
    yield Check("kernel", "ok", f"{text}; `asr-lstm doctor --build` compiles and tries it now")


def _built(cache: Path) -> Check:
    from asr_lstm.lstm.kernels import native

    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, listener = logging.getLogger(native.__name__), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        usable = native.usable()
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
    if usable:
        return Check("kernel", "ok", f"C++, compiled and loaded from {cache}")
    reason = messages[-1] if messages else "it does not load"
    return Check(
        "kernel", "note", reason, "install g++, or clear the cache folder and try again: " + str(cache)
    )
