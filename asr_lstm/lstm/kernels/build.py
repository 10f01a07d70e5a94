"""The C++ kernel's library: compiled once on first use, kept, and found again.

It is kept in the user's cache (XDG_CACHE_HOME, ~/.cache), named after the sources, the compiler and the processor,
and put there in one move: two processes may compile at once, and one that is killed leaves no lock for the next. Of
torch it needs nothing but memory, so that another version of it finds the same library.

ASR_LSTM_KERNEL=portable (or torch) keeps this kernel off; CXX names the compiler.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

log = logging.getLogger(f"{__package__}.native")  # of the kernel, which is what it speaks of

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "native.cpp"
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
_COMPILE_SECONDS = 300  # it takes 4 where cores are idle; a compiler that hangs must not hang training
_UNFINISHED = "compiling-"  # how folders begin that a compiler writes to


class Layer(ctypes.Structure):
    """`Layer` of native.cpp."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("starts", "lengths", "weight_hh", "bias", "mask", "peepholes")
        ),
        *((name, ctypes.c_void_p) for name in ("initial_states", "initial_cells")),
        *((name, ctypes.c_int64) for name in ("steps", "batch", "directions", "hidden", "gates", "threads")),
        ("pool", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        *((f"{name}_threshold", ctypes.c_uint32) for name in ("candidate", "cell", "state")),
        *((name, ctypes.c_float) for name in ("candidate_scale", "cell_share", "state_share")),
        ("expected", ctypes.c_int32),
    )


def switched_off() -> bool:
    """Whether ASR_LSTM_KERNEL asks for the layers in plain torch."""
    return os.environ.get("ASR_LSTM_KERNEL", "") in ("portable", "torch")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is not wanted or cannot be had; then one line says so."""
    if switched_off():
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        log.info(
            "no C++ compiler found: LSTM layers run in plain torch, about half as fast (g++ makes them faster)"
        )
        return None
    try:
        return _declared(_loaded(compiler))
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().partition("\n")[0]
        log.info("the C++ kernel cannot be compiled (%s): LSTM layers run in plain torch", reason)
        return None


@functools.cache
def thread_pool() -> int | None:
    """The address of the function by which torch's own products share their work, or None.

    Threads of that pool spin for milliseconds after each product, on the cores that ours would need.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):  # another threading library, another system
        return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name in ("lstm_forward", "lstm_backward"):
        getattr(library, name).argtypes = (pointer, pointer, ctypes.c_int)
    matrix = (pointer, number, number)
    product = (*matrix, *matrix, pointer, number, *matrix[1:], number, number, pointer)
    library.lstm_product.argtypes = product
    library.lstm_product_in_tiles.argtypes = (*product, ctypes.c_int, ctypes.c_int)
    library.lstm_mask_rows.argtypes = (pointer, pointer, pointer, pointer, number, number, number, pointer)
    drawing = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float)
    library.lstm_drop.argtypes = (pointer, pointer, *drawing, number, number, number, pointer)
    for name in ("forward", "backward", "product", "product_in_tiles", "mask_rows", "drop"):
        getattr(library, f"lstm_{name}").restype = None
    return library


def _loaded(compiler: str) -> ctypes.CDLL:
    path = _compiled(compiler)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # damaged, as by a disk that was full: make it anew
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(_compiled(compiler)))


def _sweep(cache: Path) -> None:
    """Remove what processes left that were killed while they compiled."""
    for folder in cache.glob(f"{_UNFINISHED}*"):
        try:
            old = time.time() - folder.stat().st_mtime > 2 * _COMPILE_SECONDS
        except OSError:  # another process was faster
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)


def _compiled(compiler: str) -> Path:
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_COMPILE_SECONDS
    ).stdout
    sources = [path.read_text(encoding="utf-8") for path in (_SOURCE, *sorted(_FOLDER.glob("native_*.h")))]
    key = "\0".join((*sources, version, " ".join(_FLAGS), _processor()))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "asr_lstm"
    target = cache / f"lstm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if target.exists():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        folder = tempfile.mkdtemp(prefix=_UNFINISHED, dir=cache)
    except OSError:  # no home to write to: compile for this process alone
        folder = tempfile.mkdtemp()
        target = Path(folder) / "kept.so"
    made = Path(folder) / "made.so"
    try:
        subprocess.run(
            [compiler, *_FLAGS, str(_SOURCE), "-o", str(made)],
            capture_output=True,
            text=True,
            check=True,
            timeout=_COMPILE_SECONDS,
        )
        made.replace(target)
    finally:
        if target.parent != Path(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return target


def _processor() -> str:
    """What `-march=native` depends on: a home folder may be shared by unlike machines."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return platform.machine() + line
    except OSError:  # not Linux
        pass
    return f"{platform.machine()} {platform.processor()} {platform.node()}"
