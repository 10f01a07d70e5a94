"""Curves as training wrote them, also where it was interrupted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asr_lstm.report_page.curves import find_logs, read_curves, training_curves


def write(folder: Path, values: dict[int, float], *, tag: str = "loss", suffix: str = "") -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for step, value in values.items():
            writer.add_scalar(tag, value, step)


def test_what_a_resumed_run_did_twice_stands_there_once(tmp_path: Path) -> None:
    write(tmp_path, {50: 4.0, 100: 3.0, 150: 2.5, 200: 2.0}, suffix=".1")
    write(tmp_path, {150: 2.25, 200: 1.75, 250: 1.5}, suffix=".2")
    assert read_curves(tmp_path) == {"loss": ([50, 100, 150, 200, 250], [4.0, 3.0, 2.25, 1.75, 1.5])}


def test_without_a_record_the_latest_logs_are_taken(tmp_path: Path) -> None:
    for name, time in (("a", 2_000_000_000), ("b", 1_000_000_000)):
        write(tmp_path / "logs" / "tensorboard" / name, {1: 1.0})
        for path in (tmp_path / "logs" / "tensorboard" / name).iterdir():
            os.utime(path, (time, time))
    assert find_logs(tmp_path) == tmp_path / "logs" / "tensorboard" / "a"
    (tmp_path / "stages.json").write_text('{"train": {"digest": "b"}}')
    assert find_logs(tmp_path) == tmp_path / "logs" / "tensorboard" / "b"


@pytest.mark.parametrize("tag", ["other", "loss"])
def test_what_was_not_logged_is_named(tmp_path: Path, tag: str) -> None:
    write(tmp_path / "logs" / "tensorboard" / "a", {1: 1.0}, tag=tag)
    said = training_curves(tmp_path)
    lacking = ["the loss"] * (tag != "loss") + ["error rates on dev", "the learning rate"]
    assert f"Not logged: {', '.join(lacking)}." in said
