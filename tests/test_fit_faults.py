"""The training stage as a whole: on two processes, interrupted, and with data that go bad."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import test_fit as stage
import torch

from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.errors import AudioError, DataError, TrainingInterrupted
from asr_lstm.manifest import Utterance


def test_two_processes_interrupted_and_gone_on_with_make_the_model_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = stage.run(tmp_path / "alone", stage.recipe(accumulate=2))
    two = stage.recipe(devices=2)
    with pytest.MonkeyPatch.context() as patch:
        stage.at_batch(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            stage.run(tmp_path / "two", two)
    outcome = stage.run(tmp_path / "two", two)
    assert outcome.resumed == 1
    assert outcome.best_dev_wer == pytest.approx(alone.best_dev_wer)
    left, right = stage.weights(tmp_path / "alone"), stage.weights(tmp_path / "two")
    assert left.keys() == right.keys()
    assert all(torch.allclose(left[name], right[name], atol=1e-3) for name in left)


def test_data_that_go_bad_end_a_run_which_goes_on_once_they_are_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = stage.pulses
    loads = []

    def disk_fails(utterance: Utterance) -> np.ndarray:
        loads.append(utterance.id)
        if len(loads) > 60:
            raise AudioError(f"{utterance.path}: no such file")
        return sound(utterance)

    monkeypatch.setattr(stage, "pulses", disk_fails)
    with pytest.raises(DataError, match=r"cannot be read any more.*unreadable\.tsv"):
        stage.run(tmp_path, stage.recipe())
    rows = (tmp_path / "logs" / "unreadable.tsv").read_text().splitlines()
    assert len(rows) > 5
    monkeypatch.setattr(stage, "pulses", sound)
    assert stage.run(tmp_path, stage.recipe()).resumed == 1


@pytest.mark.parametrize("epoch", [2, 3], ids=["in between", "at the end"])
def test_a_dev_set_that_goes_bad_is_not_what_an_epoch_is_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    whole = stage.run(tmp_path / "whole", stage.recipe(average=0.5))
    sound, own = stage.pulses, {row.id for row in stage.utterances(10, seed=2)}
    heard: list[str] = []

    def disk_fails(utterance: Utterance) -> np.ndarray:
        heard.extend([utterance.id] if utterance.id in own else [])
        # What can still be read is what was always right, so that the rates would be better than they are.
        if len(heard) > 10 * (epoch - 1) + 2:
            raise AudioError(f"{utterance.path}: no such file")
        return sound(utterance)

    monkeypatch.setattr(stage, "pulses", disk_fails)
    with pytest.raises(DataError, match="8 of 50 utterances cannot be read any more"):
        stage.run(tmp_path / "mended", stage.recipe(average=0.5))
    monkeypatch.setattr(stage, "pulses", sound)
    mended = stage.run(tmp_path / "mended", stage.recipe(average=0.5))
    assert (mended.resumed, mended.best_dev_wer) == (1, whole.best_dev_wer)
    assert stage.same(tmp_path / "mended", tmp_path / "whole")


def test_a_run_of_updates_that_are_not_finite_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = stage.pulses
    loads = []

    def poisoned(utterance: Utterance) -> np.ndarray:
        loads.append(utterance.id)
        return sound(utterance) * np.float32(math.nan if len(loads) > 60 else 1)

    monkeypatch.setattr(stage, "pulses", poisoned)
    with pytest.raises(DataError, match="3 updates in a row"):
        stage.run(tmp_path, stage.recipe(stop_after_nonfinite=3))
    snapshot = CheckpointFolder(tmp_path / "checkpoints" / "key").latest()
    assert snapshot is not None
    assert snapshot.state.updates > 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in snapshot.weights.values())


def test_what_was_lost_before_training_began_is_left_out_of_the_normalisation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = stage.pulses
    first = stage.utterances(40, seed=1)[0].id

    def lacking(utterance: Utterance) -> np.ndarray:
        if utterance.id == first:
            raise FileNotFoundError(f"{utterance.path}: gone")
        return sound(utterance)

    monkeypatch.setattr(stage, "pulses", lacking)
    stage.run(tmp_path, stage.recipe(epochs=1))
    assert first in (tmp_path / "logs" / "unreadable.tsv").read_text()
