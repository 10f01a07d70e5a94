"""Which earlier run is gone on with, which is removed, and which is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from asr_lstm.checkpoints import RunState, Snapshot
from asr_lstm.errors import ConfigError
from asr_lstm.resume import finish_run, open_run

OLD: dict[str, Any] = {"training": {"epochs": 3, "learning_rate": 0.1}, "train": "a" * 64, "gone": 1}
NEW: dict[str, Any] = {"training": {"epochs": 3, "learning_rate": 0.2}, "train": "b" * 64, "new": [1, 2]}


def begin(
    folder: Path, key: str, settings: dict[str, Any], *, fresh: bool = False, saved: bool = True
) -> Path:
    run = open_run(folder, key, settings=settings, fresh=fresh)
    if saved:
        run.save(Snapshot(RunState(), {"a": torch.zeros(1)}, {}, {}))
    return run.folder


def test_a_run_goes_on_with_its_own_checkpoints(tmp_path: Path) -> None:
    begin(tmp_path, "one", OLD)
    assert open_run(tmp_path, "one", settings=OLD, fresh=False).latest() is not None
    assert open_run(tmp_path, "one", settings=OLD, fresh=True).latest() is None


def test_what_has_changed_is_listed(tmp_path: Path) -> None:
    begin(tmp_path, "one", OLD)
    with pytest.raises(ConfigError) as error:
        begin(tmp_path, "two", NEW)
    listed = "gone: 1 then, None now, new: None then, [1, 2] now, train: other contents, "
    assert f"({listed}training.learning_rate: 0.1 then, 0.2 now)" in str(error.value)
    assert (tmp_path / "one").is_dir()
    assert not (tmp_path / "two").exists()


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    begin(tmp_path, "one", {f"n{number:02}": 0 for number in range(30)})
    with pytest.raises(ConfigError, match=r"n07: 0 then, 1 now, and 22 more\)"):
        begin(tmp_path, "two", {f"n{number:02}": 1 for number in range(30)})


@pytest.mark.parametrize("state", ["finished", "nothing saved", "fresh"])
def test_other_settings_take_the_place_of_what_is_done_or_given_up(tmp_path: Path, state: str) -> None:
    begin(tmp_path, "one", OLD, saved=state != "nothing saved")
    if state == "finished":
        finish_run(open_run(tmp_path, "one", settings=OLD, fresh=False))
    begin(tmp_path, "two", NEW, fresh=state == "fresh")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_damaged_settings_do_not_hide_the_run(tmp_path: Path) -> None:
    folder = begin(tmp_path, "one", OLD)
    (folder / "settings.json").write_text('{"trai')
    with pytest.raises(ConfigError, match=r"None then.*--fresh"):
        begin(tmp_path, "two", NEW)
