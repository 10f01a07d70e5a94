"""What is freed is kept: a second large tensor meets pages that the process already has."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, torch
from asr_lstm.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("no such allocator")
    raise SystemExit
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)  # 64 MiB, above what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def _faults(mode: str) -> str:
    command = [sys.executable, "-c", _FAULTS, mode]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_freed_memory_is_not_mapped_anew() -> None:
    kept = _faults("keep")
    if not kept.isdigit():
        pytest.skip("the C library is not glibc")
    assert int(kept) < int(_faults("default")) / 10
