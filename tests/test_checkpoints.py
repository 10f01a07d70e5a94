"""Checkpoints are whole or absent, and what is damaged, foreign, newer or hostile is not gone on from."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import (
    FORMAT,
    CheckpointFolder,
    Judged,
    RunState,
    Snapshot,
    check_weights,
)
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.schedule import TrainingConfig

WEIGHTS = {"head.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.tensor([0.5, -0.5])}


def snapshot(updates: int = 7, **state: Any) -> Snapshot:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimiser.step()
    return Snapshot(
        RunState(epoch=1, position=3, updates=updates, **state),
        {name: value + updates for name, value in WEIGHTS.items()},
        {"head.bias": torch.zeros(2)},
        {"optimiser": optimiser.state_dict(), "schedule": {"last_epoch": updates}},
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = snapshot(best=[Judged(0, 1 / 3, 0.1, "best-1.safetensors")], task={"train_seconds": 0.1})
    CheckpointFolder(tmp_path).save(saved)
    found = CheckpointFolder(tmp_path).latest()
    assert found is not None
    assert found.state == saved.state
    for left, right in ((found.weights, saved.weights), (found.average, saved.average)):
        assert set(left) == set(right)
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert found.optimiser["schedule"] == {"last_epoch": 7}
    moment = found.optimiser["optimiser"]["state"][0]["exp_avg"]
    assert torch.equal(moment, saved.optimiser["optimiser"]["state"][0]["exp_avg"])


def test_a_model_that_writes_next_to_nothing_is_no_better_than_one_that_has_letters_right(
    tmp_path: Path,
) -> None:
    data: Any = SimpleNamespace(sampler=SimpleNamespace(epoch=0))
    task: Any = SimpleNamespace(global_rank=0, model=torch.nn.Linear(1, 1))
    keeper = Checkpointer(CheckpointFolder(tmp_path), data, config=TrainingConfig(patience=2), snapshot=None)
    # 400 utterances of speechocean762, ten minutes on one core: the first epoch, and the last two
    rates = [(0.979, 0.982), (1.001, 0.571), (0.999, 0.570)]
    for data.sampler.epoch, (wer, cer) in enumerate(rates):
        assert keeper.judge(task, {"dev_wer": wer, "dev_cer": cer})
    assert [judged.epoch for judged in keeper.state.best] == [2]
    data.sampler.epoch = 3
    assert keeper.judge(task, {"dev_wer": 0.98, "dev_cer": 0.98})  # fewer words wrong, and no better
    assert not keeper.judge(task, {"dev_wer": 1.0, "dev_cer": 1.0})  # the second since the best


def test_none_is_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "new").latest() is None


def test_the_last_two_are_kept_and_the_best_epochs_that_they_name(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for updates in range(1, 5):
        name = f"best-{updates}.safetensors"
        folder.keep_weights(name, WEIGHTS)
        folder.save(snapshot(updates, best=[Judged(updates, 0.5, 0.2, name)]))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["best-3.safetensors", "best-4.safetensors", "checkpoint-000003", "checkpoint-000004"]
    assert torch.equal(folder.weights("best-4.safetensors")["head.bias"], WEIGHTS["head.bias"])
    with pytest.raises(DataError, match="--fresh"):
        folder.weights("best-1.safetensors")


def test_a_file_cut_anywhere_gives_way_to_the_checkpoint_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path)
    chance = random.Random(0)
    for round_number in range(12):
        folder.save(snapshot(1))
        newest = folder.save(snapshot(2))
        file = chance.choice(sorted(newest.iterdir()))
        content = file.read_bytes()
        file.write_bytes(content[: chance.randrange(len(content))])
        found = folder.latest()
        assert found is not None, (round_number, file)
        assert found.state.updates == 1, (round_number, file)
        assert f"{newest}: damaged" in caplog.text
    for path in folder.checkpoints():
        (path / "state.json").unlink()
    assert folder.latest() is None


def test_a_newer_version_is_named(tmp_path: Path) -> None:
    path = CheckpointFolder(tmp_path).save(snapshot())
    head = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(head | {"format": FORMAT + 1}))
    with pytest.raises(ConfigError, match=rf"format {FORMAT + 1}, this one reads {FORMAT}.*--fresh"):
        CheckpointFolder(tmp_path).latest()


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["optimiser.pt", "weights.safetensors"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_bomb_does_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, writer: str
) -> None:
    folder = CheckpointFolder(tmp_path / "run")
    folder.save(snapshot(1))
    path = folder.save(snapshot(2))
    bomb = Bomb(tmp_path / "exploded")
    if writer == "torch":
        torch.save({"optimiser": bomb}, path / name)
    else:
        (path / name).write_bytes(pickle.dumps(bomb))
    head = json.loads((path / "state.json").read_text())  # the hostile hand can write digests too
    head["digests"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(head))
    found = folder.latest()
    assert found is not None
    assert found.state.updates == 1
    assert "damaged" in caplog.text
    assert "weights_only" not in caplog.text, "torch's advice is to run it"
    assert not (tmp_path / "exploded").exists()
    if writer == "pickle":
        pickle.loads((path / name).read_bytes())
        assert (tmp_path / "exploded").exists()  # it was a bomb


def test_names_of_files_cannot_lead_out_of_the_checkpoint(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "run")
    path = folder.save(snapshot())
    (tmp_path / "secret").write_text("x")
    head = json.loads((path / "state.json").read_text())
    head["digests"]["../../secret"] = hashlib.sha256(b"x").hexdigest()
    (path / "state.json").write_text(json.dumps(head))
    assert folder.latest() is None


@pytest.mark.parametrize("what", ["checkpoint", "weights"])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_what_to_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(1))
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    write = {
        "checkpoint": lambda: folder.save(snapshot(2)),
        "weights": lambda: folder.keep_weights("best-1.safetensors", WEIGHTS),
    }[what]
    said = r"disk is full \(\d+ MB free.*free some.*checkpoint-000001 stands"
    with pytest.raises(DataError, match=said) as error:
        write()
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    found = folder.latest()
    assert found is not None
    assert found.state.updates == 1


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".new-abc"
    left.mkdir()
    (left / "weights.safetensors").write_text("half")
    assert CheckpointFolder(tmp_path).checkpoints() == []
    assert not left.exists()


def test_weights_of_another_model_are_named() -> None:
    check_weights(WEIGHTS, WEIGHTS, where=Path("x"))
    with pytest.raises(ConfigError, match=r"head\.bias is \(2,\) there, \(3,\) here"):
        check_weights(WEIGHTS, WEIGHTS | {"head.bias": torch.zeros(3)}, where=Path("x"))
    with pytest.raises(ConfigError, match=r"extra is None there"):
        check_weights(WEIGHTS, WEIGHTS | {"extra": torch.zeros(3)}, where=Path("x"))


def test_errors_are_logged_once_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(snapshot(1))
    (folder.save(snapshot(2)) / "optimiser.pt").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        folder.latest()
    assert len(caplog.records) == 1
