"""The share of time that training waits for data, on a clock that the tests set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from asr_lstm import progress
from asr_lstm.features import FeatureConfig
from asr_lstm.progress import Pace, ProgressReport, peak_memory


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


def test_waiting_is_what_goes_by_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace()
    for waited, computed, seconds in ((1.0, 3.0, 40.0), (0.5, 2.5, 30.0), (0.0, 3.0, 50.0)):
        clock.now += waited
        pace.begin_step()
        clock.now += computed
        pace.end_step(seconds)
    assert pace.data_share == pytest.approx(0.15)
    assert pace.speed == pytest.approx(12.0)
    assert str(pace) == "12 s of speech a second, data 15 %"
    clock.now += 50.0  # validation
    pace.pause()
    assert pace.data_share == 0
    clock.now += 1.0
    pace.begin_step()
    clock.now += 1.0
    pace.end_step(5.0)
    assert pace.data_share == pytest.approx(0.5)


def test_waiting_for_a_gpu_is_not_waiting_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work was only begun when a step is over; reading the loss waits for it."""
    clock = Clock(monkeypatch)
    report = ProgressReport(10, console=Console(record=True, force_terminal=False))
    config = FeatureConfig(rate=8000)
    task = SimpleNamespace(total_updates=10, model=SimpleNamespace(front_end=SimpleNamespace(config=config)))
    batch = SimpleNamespace(lengths=torch.tensor([8_000]))

    class Loss:
        def __float__(self) -> float:
            clock.now += 9.0
            return 1.5

    clock.now += 1.0
    report.on_train_batch_start(SimpleNamespace(), task, None, 0)
    report.on_train_batch_end(SimpleNamespace(world_size=1), task, {"loss": Loss()}, batch, 0)
    assert report._pace.data_share == pytest.approx(0.1)


def test_the_bar_shows_throughput_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    monkeypatch.setattr(progress, "peak_memory", lambda: 12.34)
    report = ProgressReport(10)
    assert report._load() == "0 s of speech a second, data 0 %, memory 12.3 GiB"


@pytest.mark.parametrize(("processes", "speed"), [(1, 6), (2, 12)])
def test_an_epochs_line_says_what_it_waited_for_and_how_fast_it_was(
    monkeypatch: pytest.MonkeyPatch, processes: int, speed: int
) -> None:
    clock = Clock(monkeypatch)
    console = Console(record=True, width=300, force_terminal=False)
    report = ProgressReport(10, console=console)
    metrics = {"dev_wer": 0.5, "dev_cer": 0.25, "dev_loss": 1.0}
    trainer = SimpleNamespace(
        global_step=0, current_epoch=0, max_epochs=2, sanity_checking=False, callback_metrics=metrics,
        world_size=processes,
    )  # fmt: skip
    config = FeatureConfig(rate=8000)
    task = SimpleNamespace(total_updates=10, model=SimpleNamespace(front_end=SimpleNamespace(config=config)))
    report.on_train_start(trainer, task)
    clock.now += 500.0  # whatever stands between
    report.on_train_epoch_start(trainer, task)
    clock.now += 1.0
    report.on_train_batch_start(trainer, task, None, 0)
    clock.now += 4.0
    batch = SimpleNamespace(lengths=torch.tensor([80_000, 160_000]))
    report.on_train_batch_end(trainer, task, {"loss": torch.tensor(1.5)}, batch, 0)
    report.on_validation_end(trainer, task)
    assert f" {speed} s of speech a second, data 20 %, memory" in console.export_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_peak_memory_is_that_of_this_process() -> None:
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    assert peak_memory() == pytest.approx(int(line.split()[1]) / 2**20, rel=0.05)
