"""The time loops in C++, compiled once on first use; where there is no compiler the portable ones serve.

Float32 on a CPU only. The compiled library is kept in the user's cache (XDG_CACHE_HOME, ~/.cache), named after
the source, the compiler and the processor, and put there in one move: two processes may compile at once.

ASR_LSTM_KERNEL=portable keeps this kernel off; CXX names the compiler.
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
from pathlib import Path

import torch
from torch import Tensor

from asr_lstm.lstm.kernels.plan import PackingPlan

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
_COMPILE_SECONDS = 120  # it takes 2; a compiler that hangs must not hang training


def usable(*tensors: Tensor) -> bool:
    """Whether this kernel runs on these tensors: float32 on the CPU, and the library is there."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors) and _library() is not None
    )


def through_time(
    gates: Tensor, *, plan: PackingPlan, weight_hh: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `portable.through_time`."""
    directions, _, hidden = weight_hh.shape
    weight_hh, mask = weight_hh.contiguous(), None if mask is None else mask.contiguous()
    cells = gates.new_empty(plan.batch + len(gates), directions, hidden)
    states = torch.empty_like(cells)
    cells[: plan.batch] = 0
    states[: plan.batch] = 0
    _call("lstm_through_time", gates, cells, states, weight_hh, mask, plan=plan, hidden=hidden)
    return cells, states


def back_through_time(
    grad_states: Tensor,
    *,
    plan: PackingPlan,
    weight_hh: Tensor,
    mask: Tensor | None,
    gates: Tensor,
    cells: Tensor,
) -> Tensor:
    """As `portable.back_through_time`."""
    weight_hh, mask = weight_hh.contiguous(), None if mask is None else mask.contiguous()
    grad_states = grad_states.contiguous()
    grad_gates = torch.empty_like(gates)
    hidden = weight_hh.shape[-1]
    _call(
        "lstm_back_through_time",
        grad_states,
        gates,
        cells,
        weight_hh,
        mask,
        grad_gates,
        plan=plan,
        hidden=hidden,
    )
    return grad_gates


def _call(name: str, *tensors: Tensor | None, plan: PackingPlan, hidden: int) -> None:
    library = _library()
    assert library is not None  # `usable` came first
    # Results are written where the pointers lead, so that a copy made contiguous would lose them.
    assert all(
        tensor is None or (tensor.is_contiguous() and tensor.dtype == torch.float32) for tensor in tensors
    )
    active = torch.tensor(plan.active)
    getattr(library, name)(
        *[ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors],
        ctypes.c_void_p(active.data_ptr()),
        *[
            ctypes.c_int64(number)
            for number in (len(active), plan.batch, plan.directions, hidden, torch.get_num_threads())
        ],
    )


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is not wanted or cannot be had; then one line says so."""
    if os.environ.get("ASR_LSTM_KERNEL", "") == "portable":
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        log.info(
            "no C++ compiler found: LSTM layers run in plain torch, about half as fast (g++ makes them faster)"
        )
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().partition("\n")[0]
        log.info("the C++ kernel cannot be compiled (%s): LSTM layers run in plain torch", reason)
        return None


def _compiled(compiler: str) -> Path:
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_COMPILE_SECONDS
    ).stdout
    key = "\0".join((_SOURCE.read_text(encoding="utf-8"), version, " ".join(_FLAGS), _processor()))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "asr_lstm"
    target = cache / f"lstm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if target.exists():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=cache)
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
