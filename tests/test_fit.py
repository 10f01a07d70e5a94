"""Training survives: killed, interrupted, out of disk, it comes to the very weights of an undisturbed run."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from asr_lstm import fit as module
from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import DataConfig
from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.errors import ConfigError, DataError, TrainingInterrupted
from asr_lstm.features import FeatureConfig
from asr_lstm.fit import Outcome, fit
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig
from asr_lstm.report_page.curves import read_curves
from asr_lstm.schedule import TrainingConfig
from asr_lstm.training import CTCTraining

LETTERS = "abc "
BATCHES = 8  # of an epoch, checked below
KILLED = 9


def pulses(utterance: Utterance) -> np.ndarray:
    """Frames of an utterance: each letter is a few noisy frames around its own corner of the space."""
    random = np.random.default_rng(int(utterance.id))
    rows = [row for letter in utterance.text for row in (*[LETTERS.index(letter)] * 3, -1)]
    frames = np.array([np.eye(len(LETTERS))[row] if row >= 0 else np.zeros(len(LETTERS)) for row in rows])
    return (frames + random.normal(scale=0.2, size=frames.shape)).astype(np.float32)


def utterances(count: int, *, seed: int) -> list[Utterance]:
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list("abc"), size=random.integers(2, 6))) for _ in range(count)]
    return [
        Utterance(
            Path(f"{1000 * seed + index}"), text, duration=0.04 * len(text), id=f"{1000 * seed + index}"
        )
        for index, text in enumerate(texts)
    ]


def recipe(*, workers: int = 0, **training: Any) -> Recipe:
    settings: dict[str, Any] = {"epochs": 3, "learning_rate": 0.02, "precision": "32-true"}
    return Recipe(
        name="pulses",
        corpus=CorpusConfig(prepare="none.none", load="none.none"),
        features=FeatureConfig(kind="frames", dims=len(LETTERS), stack=1, hop_ms=10),
        augment=AugmentConfig(speed=0.0, frequency_masks=1, time_masks=1),
        encoder=EncoderConfig(layers=2, hidden=8, layer_dropout=0.2, state_dropout=0.2, zoneout_cell=0.1),
        data=DataConfig(batch_seconds=1.0, workers=workers, cache_gib=0.0),
        training=TrainingConfig(**settings | training),
    )


def run(
    output: Path, recipe: Recipe, *, key: str = "key", fresh: bool = False, settings: Any = None
) -> Outcome:
    return fit(
        recipe,
        train=utterances(40, seed=1),
        dev=utterances(10, seed=2),
        load=pulses,
        output=output,
        key=key,
        settings=settings or {"training": {"epochs": 3}},
        fresh=fresh,
        console=Console(quiet=True),
    )


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    left, right = weights(first), weights(second)
    return set(left) == set(right) and all(torch.equal(left[name], right[name]) for name in left)


def at_batch(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Do something when so many batches of this process's training have ended."""
    after, seen = Checkpointer.on_train_batch_end, []

    def hook(self: Checkpointer, *arguments: Any) -> None:
        after(self, *arguments)
        seen.append(1)
        if len(seen) == number:
            action()

    monkeypatch.setattr(Checkpointer, "on_train_batch_end", hook)


def run_and_die(output: Path, recipe: Recipe, *, batch: int) -> None:
    """Train in a process of its own that ends at a batch, as if killed: nothing is tidied up."""

    def child() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            at_batch(monkeypatch, batch, lambda: os._exit(KILLED))
            run(output, recipe)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == KILLED


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("undisturbed")
    outcome = run(output, recipe())
    assert outcome.resumed == 0
    return output


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_twice_within_epochs_ends_in_the_same_weights(
    tmp_path: Path, undisturbed: Path, workers: int
) -> None:
    often = recipe(workers=workers, checkpoint_minutes=0.0)  # after each update
    run_and_die(tmp_path, often, batch=3)
    state = CheckpointFolder(tmp_path / "checkpoints" / "key").latest().state  # type: ignore[union-attr]
    assert (state.epoch, state.position) == (0, 3)
    run_and_die(tmp_path, often, batch=8)
    state = CheckpointFolder(tmp_path / "checkpoints" / "key").latest().state  # type: ignore[union-attr]
    assert state.epoch == 1
    assert 0 < state.position < BATCHES
    assert run(tmp_path, often).resumed == 2
    assert same(tmp_path, undisturbed)


def test_epochs_of_a_single_batch_are_not_lost(tmp_path: Path) -> None:
    """Such an epoch has no moment between two of its updates; the place between epochs is one."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    one = replace(recipe(epochs=6, checkpoint_minutes=0.0), data=DataConfig(batch_seconds=1e3, cache_gib=0.0))
    run(whole, one)
    run_and_die(cut, one, batch=5)
    state = CheckpointFolder(cut / "checkpoints" / "key").latest().state  # type: ignore[union-attr]
    assert (state.epoch, state.position, state.updates) == (4, 0, 4)
    run(cut, one)
    assert same(whole, cut)


def test_a_run_killed_some_updates_after_its_checkpoint_does_them_again(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = recipe(checkpoint_minutes=0.0)
    save = Checkpointer.save
    monkeypatch.setattr(
        Checkpointer,
        "save",
        lambda self, trainer, task: save(self, trainer, task) if trainer.global_step < 6 else None,
    )
    run_and_die(tmp_path, often, batch=12)
    monkeypatch.undo()
    run(tmp_path, often)
    assert same(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_at_once(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        at_batch(patch, 10, lambda: signal.raise_signal(number))
        with pytest.raises(TrainingInterrupted, match="the same command goes on"):
            run(tmp_path, recipe())
    assert signal.getsignal(number) == before
    assert CheckpointFolder(tmp_path / "checkpoints" / "key").latest().state.updates == 11  # type: ignore[union-attr]
    assert run(tmp_path, recipe()).resumed == 1
    assert same(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_is_heeded_and_signals_are_given_back(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    started, before = CTCTraining.on_train_start, signal.getsignal(number)

    def interrupted(task: CTCTraining) -> None:
        started(task)
        signal.raise_signal(number)

    for _ in range(2):  # the second time it is a run that is gone on with
        with monkeypatch.context() as patch:
            patch.setattr(CTCTraining, "on_train_start", interrupted)
            with pytest.raises(TrainingInterrupted):
                run(tmp_path, recipe())
        assert signal.getsignal(number) is before
    assert run(tmp_path, recipe()).resumed == 2
    assert signal.getsignal(number) is before, "nor is it kept when training has come to its end"
    assert same(tmp_path, undisturbed)


@pytest.mark.parametrize("place", ["judging", "last epoch"])
def test_a_signal_while_an_epoch_is_judged_loses_nothing(
    tmp_path: Path, undisturbed: Path, place: str
) -> None:
    epoch = 2 if place == "last epoch" else 0
    with pytest.MonkeyPatch.context() as patch:
        start = Checkpointer.on_validation_start

        def hook(self: Checkpointer, trainer: Any, task: Any) -> None:
            start(self, trainer, task)
            if trainer.current_epoch == epoch:
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(Checkpointer, "on_validation_start", hook)
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, recipe())
    state = CheckpointFolder(tmp_path / "checkpoints" / "key").latest().state  # type: ignore[union-attr]
    assert (state.epoch, len(state.best)) == (epoch, 0 if epoch == 0 else 1)
    run(tmp_path, recipe())
    assert same(tmp_path, undisturbed)


def test_loss_and_learning_rate_are_logged_every_tenth_update(undisturbed: Path) -> None:
    (folder,) = (undisturbed / "logs" / "tensorboard").iterdir()
    curves = read_curves(folder)
    updates = CheckpointFolder(undisturbed / "checkpoints" / "key").latest().state.updates  # type: ignore[union-attr]
    for tag in ("loss", "learning_rate"):
        assert curves[tag][0] == list(range(0, updates, 10))
    assert curves["loss"][1][-1] < curves["loss"][1][0]
    assert len(curves["dev_wer"][0]) == 3


def test_a_run_that_ended_is_not_trained_again(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_bundle", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, recipe())
    monkeypatch.undo()
    monkeypatch.setattr("lightning.Trainer.fit", killed)
    run(tmp_path, recipe())
    assert same(tmp_path, undisturbed)


def test_averages_go_on_too(tmp_path: Path, undisturbed: Path) -> None:
    settings = {"average": 0.9, "average_best": 2}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(whole, recipe(**settings))
    assert not same(whole, undisturbed)
    run_and_die(cut, recipe(**settings, checkpoint_minutes=0.0), batch=11)
    run(cut, recipe(**settings))
    assert same(whole, cut)


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    often = recipe(checkpoint_minutes=0.0)
    run_and_die(tmp_path, often, batch=5)
    newest = CheckpointFolder(tmp_path / "checkpoints" / "key").checkpoints()[-1]
    file = newest / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING, logger="asr_lstm"):
        run(tmp_path, often)
    assert f"{newest}: damaged" in caplog.text
    assert "going on from epoch 1, batch 4" in caplog.text
    assert same(tmp_path, undisturbed)


def test_a_full_disk_does_not_end_training(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save, calls = CheckpointFolder.save, []

    def full(self: CheckpointFolder, *arguments: Any) -> Path:
        calls.append(1)
        if len(calls) in (3, 4):
            raise DataError("the disk is full")
        return save(self, *arguments)

    monkeypatch.setattr(CheckpointFolder, "save", full)
    run(tmp_path, recipe(checkpoint_minutes=0.0))
    assert caplog.text.count("the disk is full") == 2
    assert same(tmp_path, undisturbed)


def test_other_settings_are_refused_until_the_run_is_done_or_given_up(
    tmp_path: Path, undisturbed: Path
) -> None:
    run_and_die(tmp_path, recipe(checkpoint_minutes=0.0), batch=4)
    new = {"training": {"epochs": 2}, "train": "0" * 64}
    with pytest.raises(
        ConfigError, match=r"train: other contents, training\.epochs: 3 then, 2 now.*--fresh"
    ) as error:
        run(tmp_path, recipe(epochs=2), key="other", settings=new)
    assert "\n" not in str(error.value)
    run(tmp_path, recipe(epochs=2), key="other", settings=new, fresh=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["other"]
    run(tmp_path, recipe())  # the other one is done: no question
    assert same(tmp_path, undisturbed)


def test_fresh_starts_over_with_the_same_settings_too(tmp_path: Path, undisturbed: Path) -> None:
    run_and_die(tmp_path, recipe(checkpoint_minutes=0.0), batch=4)
    assert run(tmp_path, recipe(), fresh=True).resumed == 0
    assert same(tmp_path, undisturbed)


def test_time_that_is_short_ends_the_schedule_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))  # each update takes a second
    monkeypatch.setattr("asr_lstm.training.CTCTraining.seconds", property(lambda self: float(next(clock))))
    rates: list[float] = []

    def note(self: Any, *arguments: Any, **options: Any) -> None:
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr("asr_lstm.training.CTCTraining.on_train_batch_end", note)
    run(tmp_path, recipe(epochs=50, patience=50, max_minutes=0.5))
    assert 20 < len(rates) <= 31  # the last one begins before the time is up
    assert rates[-1] < 0.1 * max(rates)  # and has cooled down by then
    assert weights(tmp_path)


def test_what_goes_on_plans_its_time_before_its_first_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("asr_lstm.training.CTCTraining.seconds", property(lambda self: float(next(clock))))
    step, planned = CTCTraining.training_step, []

    def note(self: CTCTraining, *arguments: Any) -> torch.Tensor:
        planned.append(self.total_updates)
        return step(self, *arguments)

    monkeypatch.setattr(CTCTraining, "training_step", note)
    short = recipe(epochs=50, patience=50, max_minutes=0.5)
    with monkeypatch.context() as once:
        at_batch(once, 20, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, short)
    assert planned[0] > 300  # fifty epochs: nothing is known of its speed yet
    killed = len(planned)
    run(tmp_path, short)
    assert planned[killed] < 40


def test_a_bundle_to_begin_from(tmp_path: Path, undisturbed: Path) -> None:
    settings = {"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0}
    run(tmp_path, replace(recipe(init=str(undisturbed / "model"), **settings), seed=5))
    old, new = weights(undisturbed), weights(tmp_path)
    for name, value in old.items():
        assert torch.allclose(new[name], value, atol=1e-6), name


def test_checkpoints_keep_to_the_last_two_and_the_best(tmp_path: Path) -> None:
    run(tmp_path, recipe(checkpoint_minutes=0.0))
    folder = tmp_path / "checkpoints" / "key"
    names = sorted(path.name for path in folder.iterdir())
    assert len([name for name in names if name.startswith("checkpoint-")]) == 2
    states = [
        json.loads((folder / name / "state.json").read_text())["state"]
        for name in names
        if "checkpoint-" in name
    ]
    named = {state["best"][0]["file"] for state in states}
    assert {name for name in names if name.startswith("best-")} == named
    assert len(named) in (1, 2)
