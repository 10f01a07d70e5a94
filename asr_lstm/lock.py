"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process while the block runs.

    The lock is a file that names its process. That of a process that has died on this machine is taken over; a lock
    of the system's own would not do, since the loading processes of a killed run hold on to it for seconds.

    Args:
        folder: made where missing.

    Raises:
        ConfigError: another process is at work there; it is named.
    """
    path = Path(folder) / LOCK_NAME
    own = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    path.parent.mkdir(parents=True, exist_ok=True)
    with _guard(path.parent):
        _check_free(path, own)
        with atomic_write(path) as file:
            json.dump(own, file)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if _read(path) == own:
                path.unlink()


def _check_free(path: Path, own: dict[str, Any]) -> None:
    held = _read(path)
    if not held:  # none, or a damaged one
        return
    who = f"process {held.get('pid')} on {held.get('host')}"
    if held.get("host") != own["host"]:
        raise ConfigError(
            f"{path.parent}: {who} is at work there; wait for it, or remove {path} if it has died"
        )
    pid = held.get("pid")
    if isinstance(pid, int) and _started(pid) == held.get("started") is not None:
        raise ConfigError(f"{path.parent}: {who} is at work there; wait for it, or end it")
    log.info("%s: %s has died; taking over", path.parent, who)


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the machine was; None where there is none of that number.

    Numbers of processes are used again, hence the time. Where there is no /proc, "" for any that is alive.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _alive(pid) else ""
    fields = status.rpartition(")")[2].split()  # after the name, which may hold anything
    return None if fields[0] in ("Z", "X") else fields[19]  # proc(5): state is field 3, starttime field 22


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Keep two processes from looking at the same dead lock and both taking it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
