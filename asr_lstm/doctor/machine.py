"""What the machine offers: processor, memory, disk, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from asr_lstm.doctor.checks import Check

_GIB = 2**30
# The LibriSpeech recipe's stand-in takes 2 GiB of disk; training it 1.5 GiB of memory.
_LITTLE_DISK_GIB = 5.0
_NO_DISK_GIB = 0.5
_LITTLE_MEMORY_GIB = 2.0
_SMI_SECONDS = 10  # a driver that hangs must not hang the doctor
_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_CGROUP = Path("/sys/fs/cgroup")


def check_processor() -> Iterator[Check]:
    """The processor, and how many of its cores this process may use."""
    cores = _cores()
    machine = os.cpu_count() or cores
    of_them = f" of {machine}" if cores < machine else ""
    yield Check("processor", "ok", f"{_processor()}, {cores}{of_them} cores to use")
    quota = _quota(_CGROUP)
    if quota is not None and quota < cores:
        remedy = f"set OMP_NUM_THREADS={max(1, round(quota))}: more threads than that wait for each other"
        yield Check("cores", "note", f"this container may use {quota:g} at a time", remedy)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine() or "unknown"


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time that a container may use, None where there is no limit."""
    for name, parse in (("cpu.max", str.split), ("cpu/cpu.cfs_quota_us", lambda text: [text, "100000"])):
        try:
            granted, period = parse((cgroup / name).read_text(encoding="utf-8").strip())
            if granted != "max" and int(granted) > 0:
                return int(granted) / int(period)
        except (OSError, ValueError):
            continue
    return None


def check_memory() -> Iterator[Check]:
    """Memory that is there, that is free, and that a container may use."""
    total, free = _memory()
    limit = _memory_limit(_CGROUP)
    bound = f"; this container may use {limit / _GIB:.1f}" if limit is not None and limit < total else ""
    text = f"{total / _GIB:.1f} GiB" + (f", {free / _GIB:.1f} free" if free is not None else "") + bound
    usable = min(total, free if free is not None else total, limit if limit is not None else total)
    if usable < _LITTLE_MEMORY_GIB * _GIB:
        remedy = "close other programs, or make data.batch_seconds and data.cache_gib of the recipe smaller"
        yield Check("memory", "note", text, remedy)
    else:
        yield Check("memory", "ok", text)


def _memory() -> tuple[int, int | None]:
    """Bytes in all, and bytes free where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        sizes = {
            line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1
        }
        return sizes["MemTotal"], sizes.get("MemAvailable")
    except (OSError, KeyError, ValueError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None


def _memory_limit(cgroup: Path) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((cgroup / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def check_disk() -> Iterator[Check]:
    """Room where recipes would write from here."""
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free / _GIB
    text = f"{free:.1f} GiB free in {folder}"
    remedy = "free some, or work in a folder on a larger disk"
    if not os.access(folder, os.W_OK):
        yield Check("disk", "note", f"{text}, but it cannot be written to", "work in a folder of your own")
    elif free < _NO_DISK_GIB:
        yield Check("disk", "BROKEN", text, remedy)
    elif free < _LITTLE_DISK_GIB:
        yield Check("disk", "note", text, remedy)
    else:
        yield Check("disk", "ok", text)


def check_precision() -> Iterator[Check]:
    """How many threads torch uses, and which precision training chooses by itself."""
    import torch

    from asr_lstm.schedule import TrainingConfig, choose_precision

    yield Check("threads", "ok", f"torch uses {torch.get_num_threads()}")
    if choose_precision(TrainingConfig()) == "bf16-mixed":
        yield Check(
            "precision", "ok", "bfloat16 products in training: this processor has instructions for them"
        )
    else:
        yield Check("precision", "ok", "float32: this processor has no instructions for bfloat16 products")


def check_gpu() -> Iterator[Check]:
    """GPUs by torch, and by the driver where torch sees none."""
    import torch

    listed = _nvidia_smi()
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            driver = f", driver {listed[index][2]}" if index < len(listed) else ""
            text = f"{device.name}, {device.total_memory / _GIB:.0f} GiB{driver}, CUDA {torch.version.cuda}"
            yield Check(f"GPU {index}", "ok", f"{text}; `--training.device gpu` trains on it")
    elif listed:
        name, memory, driver = listed[0]
        why = "was built without CUDA" if torch.version.cuda is None else f"needs CUDA {torch.version.cuda}"
        remedy = (
            "install the torch and torchaudio of your driver's CUDA version: see pytorch.org/get-started"
            if torch.version.cuda is None
            else "update the driver, or install a torch of an older CUDA version: see pytorch.org/get-started"
        )
        yield Check(
            "GPU", "note", f"{name}, {memory}, driver {driver}; but torch {why} and sees none", remedy
        )
    else:
        yield Check("GPU", "ok", "none; recipes run on the processor")


def _nvidia_smi() -> list[list[str]]:
    """Name, memory and driver of each GPU, as NVIDIA's driver lists them."""
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # not there, no driver, or it hangs
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(_SMI[1].split(","))]
