"""One run at a time in a folder, and none for ever."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.errors import ConfigError
from asr_lstm.lock import LOCK_NAME, folder_lock


def held(folder: Path) -> dict[str, Any]:
    """What the lock of a folder says."""
    lock: dict[str, Any] = json.loads((folder / LOCK_NAME).read_text())
    return lock


def write(folder: Path, **changes: Any) -> None:
    """The lock of another process, this one's but for the changes."""
    with folder_lock(folder):
        own = held(folder)
    (folder / LOCK_NAME).write_text(json.dumps(own | changes))


def test_it_is_held_and_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with folder_lock(folder):
        assert held(folder)["pid"] == os.getpid()
    assert list(folder.iterdir()) == []
    with pytest.raises(RuntimeError), folder_lock(folder):
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_a_second_run_is_told_of_the_first(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with (
            pytest.raises(ConfigError, match=rf"process {os.getpid()} on {socket.gethostname()} is at work"),
            folder_lock(tmp_path),
        ):
            pass
        assert held(tmp_path)["pid"] == os.getpid()  # the first one's stays


def test_the_lock_of_a_process_that_died_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def hold_and_die() -> None:
        with folder_lock(tmp_path):
            os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=hold_and_die)
    process.start()
    process.join()
    assert held(tmp_path)["pid"] == process.pid
    caplog.set_level("INFO")
    with folder_lock(tmp_path):
        assert held(tmp_path)["pid"] == os.getpid()
    assert f"process {process.pid}" in caplog.text


def test_a_number_that_another_process_has_now_is_no_lock(tmp_path: Path) -> None:
    write(tmp_path, started="1")
    with folder_lock(tmp_path):
        assert held(tmp_path)["started"] != "1"
    assert not (tmp_path / LOCK_NAME).exists()


def test_another_machine_is_not_guessed_about(tmp_path: Path) -> None:
    write(tmp_path, host="far", pid=1)
    with pytest.raises(ConfigError, match=r"process 1 on far.*remove .*\.lock"), folder_lock(tmp_path):
        pass
    assert held(tmp_path)["host"] == "far"


@pytest.mark.parametrize("content", ["", "[]", '{"pid": "x", "host":'])
def test_a_damaged_lock_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_NAME).write_text(content)
    with folder_lock(tmp_path):
        assert held(tmp_path) == {"pid": os.getpid(), "host": socket.gethostname()} | {
            "started": held(tmp_path)["started"]
        }
    assert not (tmp_path / LOCK_NAME).exists()
