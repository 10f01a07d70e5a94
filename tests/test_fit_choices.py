"""What training ends with: when it stops, which weights it keeps, what it says of its time, how far a step goes."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import pytest
import small_training as small
from gradient_norms import noted_norms
from safetensors.torch import load_file
from test_fit import recipe, run, weights
from torch import Tensor

from asr_lstm import fit as module
from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import CheckpointFolder, RunState
from asr_lstm.errors import TrainingInterrupted
from asr_lstm.schedule import TrainingConfig
from asr_lstm.training import CTCTraining

STILL = {"epochs": 20, "learning_rate": 1e-9, "weight_decay": 0.0, "patience": 1}


def state(output: Path) -> RunState:
    """What the newest checkpoint says."""
    snapshot = CheckpointFolder(output / "checkpoints" / "key").latest()
    assert snapshot is not None
    return snapshot.state


def kept(output: Path, file: str) -> dict[str, Tensor]:
    return load_file(output / "checkpoints" / "key" / file)


def differ(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left)


def test_training_ends_when_the_best_epoch_is_patience_epochs_past(tmp_path: Path) -> None:
    run(tmp_path, recipe(**STILL))
    ended = state(tmp_path)
    assert (ended.epoch, ended.position, ended.since_best) == (2, 0, 1)


def test_so_does_a_run_that_goes_on_at_that_epochs_judging(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        start = Checkpointer.on_validation_start

        def hook(self: Checkpointer, trainer: Any, task: Any) -> None:
            start(self, trainer, task)
            if trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(Checkpointer, "on_validation_start", hook)
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, recipe(**STILL))
    assert not state(tmp_path).ended
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning.Trainer.fit", lambda *_, **__: pytest.fail("trained on"))
        assert run(tmp_path, recipe(**STILL)).resumed == 1


def test_time_is_counted_over_all_sittings(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        save, after = CTCTraining.on_save_checkpoint, Checkpointer.on_train_batch_end

        def long_ago(self: CTCTraining, checkpoint: dict[str, Any]) -> None:
            save(self, checkpoint)
            checkpoint["train_seconds"] += 1000.0

        def interrupt(self: Checkpointer, *arguments: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            after(self, *arguments)

        patch.setattr(CTCTraining, "on_save_checkpoint", long_ago)
        patch.setattr(Checkpointer, "on_train_batch_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, recipe())
    assert 1000 < run(tmp_path, recipe()).train_seconds < 2000


@pytest.mark.parametrize("better", [True, False])
def test_the_mean_of_the_best_epochs_is_kept_where_it_is_no_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    rate = 0.0 if better else 9.0
    monkeypatch.setattr(module, "_judge", lambda *_: {"dev_wer": rate, "dev_cer": rate})
    outcome = run(tmp_path, recipe(average=0.0, average_best=2))
    best = state(tmp_path).best
    assert len(best) == 2
    first, second = (kept(tmp_path, judged.file) for judged in best)
    assert differ(first, second) > 1e-3
    mean = {name: (value.double() + second[name].double()) / 2 for name, value in first.items()}
    assert differ(weights(tmp_path), mean if better else first) < 1e-6
    assert outcome.best_dev_wer == (rate if better else best[0].wer)


def test_what_is_judged_and_kept_are_the_averaged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average written out: 0.9 of it stays at an update, less in the first ones (`WeightAverage`)."""
    after, decay, average = Checkpointer.on_train_batch_end, 0.9, {}
    at_epochs: list[dict[str, Tensor]] = []

    def follow(self: Checkpointer, trainer: Any, task: Any, *arguments: Any) -> None:
        now = {name: value.detach().double().clone() for name, value in task.model.named_parameters()}
        after(self, trainer, task, *arguments)
        number = trainer.global_step - 1
        stays = min(decay, (1 + number) / (10 + number))
        for name, value in now.items():
            average[name] = stays * average[name] + (1 - stays) * value if number else value
        if trainer.is_last_batch:
            at_epochs.append(dict(average))

    monkeypatch.setattr(Checkpointer, "on_train_batch_end", follow)
    run(tmp_path, recipe(average=decay))
    (judged,) = state(tmp_path).best
    model = weights(tmp_path)
    assert differ(kept(tmp_path, judged.file), model) == 0
    expected = at_epochs[judged.epoch]
    assert differ({name: model[name] for name in expected}, expected) < 1e-5


def test_gradients_are_clipped() -> None:
    limit = 0.5
    norms = {}
    for clip in (1e6, limit):
        task, data = small.make(gradient_clip=clip)
        with noted_norms() as norms[clip]:
            small.train(task, data)
    assert norms[1e6][0] > 2 * limit
    assert norms[limit][0] == pytest.approx(limit, rel=1e-4)
    assert max(norms[limit]) <= limit * 1.0001


@pytest.mark.parametrize(
    ("rates", "most", "best"),
    [
        ([0.5, 0.3, 0.3], 1, [2]),  # of equals the one that has learned longer
        ([0.5, 0.3, 0.4], 2, [1, 2]),
        ([0.3, 0.5, 0.4], 2, [0, 2]),
        ([0.3, 0.3, 0.3], 2, [2, 1]),
    ],
)
def test_the_best_epochs_are_those_of_fewest_errors(
    tmp_path: Path, rates: list[float], most: int, best: list[int]
) -> None:
    task, data = small.make()
    config = TrainingConfig(average_best=most, patience=2)
    keeper = Checkpointer(CheckpointFolder(tmp_path), data, config=config)
    goes_on = []
    for rate in rates:
        goes_on.append(keeper.judge(task, {"dev_wer": rate, "dev_cer": rate / 2}))
        data.sampler.next_epoch()
    assert [judged.epoch for judged in keeper.state.best] == best
    assert all((tmp_path / judged.file).exists() for judged in keeper.state.best)
    # Equals are no gain: patience is not for them.
    assert goes_on == [True, True, rates.index(min(rates)) > 0]


def test_how_much_the_mean_of_epochs_gained_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        run(tmp_path, recipe(average_best=2))
    assert "mean of the 2 best epochs: dev WER" in caplog.text
