from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from asr_lstm.bundle import load_bundle
from asr_lstm.errors import ConfigError, DataError, TrainingInterrupted
from asr_lstm.lm.neural.bundle import load_neural
from asr_lstm.lm.neural.fusion import NeuralUnits
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.scores import measure
from asr_lstm.lm_training.command import lstm_train_command
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.stretches import FORGETTING, Position, Round, Stretches
from asr_lstm.lm_training.task import LanguageTraining
from asr_lstm.lock import folder_lock
from asr_lstm.schedule import learning_rate_share

ROOT = Path(__file__).resolve().parents[2]
# Lightning takes seconds to import, training tiny models takes less.
TINY = {"network": NetworkConfig(layers=1, hidden=16, layer_dropout=0, output_dropout=0, weight_dropout=0)}
QUICK = {"batch": 4, "window": 8, "dev_every": 3, "learning_rate": 0.02, "precision": "32-true"}


def train(text: Path, output: Path, **options: Any) -> None:
    training = LMTrainingConfig(**(QUICK | {"updates": 6} | options.pop("training", {})))
    lstm_train_command(text=text, output=output, training=training, **(TINY | options))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "on", "a", "mat"], 300).tolist()
    lines = [" ".join(words[start : start + 5]) for start in range(0, 300, 5)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "text.txt"


def test_stretches_go_on_where_the_last_one_ended() -> None:
    ids = np.arange(1000)
    stretches = Stretches(ids, batch=4, window=16, seed=3)
    assert stretches.passes == 15
    first, second, again = stretches[0], stretches[1], Stretches(ids, batch=4, window=16, seed=3)[1]
    assert torch.equal(first.targets, first.inputs + 1)
    assert torch.equal(second.inputs[:, 0], first.inputs[:, -1] + 1)
    assert torch.equal(second.inputs, again.inputs)
    assert torch.equal(second.remembers, again.remembers)
    assert first.remembers.tolist() == [0, 0, 0, 0]
    one_pass = torch.cat([stretches[update].inputs.flatten() for update in range(15)])
    assert len(one_pass.unique()) == 4 * 15 * 16  # each unit once
    begins = {int(stretches[15 * epoch].inputs[0, 0]) for epoch in range(40)}
    assert len(begins) > 10
    assert max(begins) <= 999 - 4 * 15 * 16


def test_now_and_then_a_place_forgets() -> None:
    stretches = Stretches(np.arange(40_000) % 7, batch=20, window=2, seed=1)
    kept = torch.stack([stretches[update].remembers for update in range(1, stretches.passes)])
    assert float(kept.mean()) == pytest.approx(1 - FORGETTING, abs=0.005)


@pytest.mark.parametrize(("units", "batch", "window"), [(2, 1, 1), (5, 1, 4), (30, 3, 8), (1000, 4, 8)])
def test_short_texts_have_fewer_places(units: int, batch: int, window: int) -> None:
    stretches = Stretches(np.arange(units), batch=4, window=8, seed=0)
    assert (stretches.batch, stretches.window) == (batch, window)
    for update in range(3 * stretches.passes):
        assert stretches[update].targets.shape == (batch, window)
        assert int(stretches[update].targets.max()) < units
    with pytest.raises(DataError, match="give more text"):
        Stretches(np.arange(1), batch=4, window=8, seed=0)


def test_a_round_ends_at_the_next_look() -> None:
    stretches, position = Stretches(np.arange(500), batch=2, window=8, seed=0), Position()
    rounds = Round(stretches, position, every=4, total=10)
    for at, length in ((0, 4), (3, 1), (4, 4), (8, 2), (10, 0)):
        position.update = at
        found = list(rounds)
        assert len(found) == length
        assert all(torch.equal(one.inputs, stretches[at + i].inputs) for i, one in enumerate(found))


def test_memory_is_carried_on_and_gradients_are_not() -> None:
    model = LanguageModel(TINY["network"], units=5)
    ids = np.random.default_rng(0).integers(0, 5, 200)
    task = LanguageTraining(model, config=LMTrainingConfig(), dev=ids, position=Position(), seed=0)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    task._trainer = type("Fake", (), {"optimizers": [torch.optim.SGD(model.parameters())]})()  # type: ignore[assignment]
    units = torch.from_numpy(ids[:33].reshape(1, 33))
    ones = torch.ones(1)
    from asr_lstm.lm_training.stretches import Stretch

    losses = [
        task.training_step(Stretch(units[:, at : at + 16], units[:, at + 1 : at + 17], ones), 0)
        for at in (0, 16)
    ]
    whole = torch.nn.functional.cross_entropy(model(units[:, :-1])[0][0], units[0, 1:])
    assert float(sum(losses)) / 2 == pytest.approx(float(whole), abs=1e-5)
    losses[1].backward()  # would fail if it reached back into the first stretch, whose graph is its own
    assert task._states is not None
    assert not task._states.states.requires_grad
    forgotten = task.training_step(Stretch(units[:, :16], units[:, 1:17], torch.zeros(1)), 0)
    assert float(forgotten) == pytest.approx(float(losses[0]), abs=1e-5)


def test_the_learning_rate_falls_with_updates_or_time(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LMTrainingConfig(updates=100, max_minutes=10, warmup=0.1, final_share=0.0)
    position = Position()
    task = LanguageTraining(
        LanguageModel(TINY["network"], units=3), config=config, dev=np.zeros(2), position=position, seed=0
    )
    share = task.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]
    now = [task._started]
    monkeypatch.setattr("asr_lstm.lm_training.task.time.monotonic", lambda: now[0])
    for updates, minutes, progress in ((0, 0, 0), (50, 1, 50), (50, 8, 80), (90, 8, 90), (95, 11, 100)):
        position.update, now[0] = updates, task._started + 60 * minutes
        assert task.progress == pytest.approx(progress / 100)
        expected = learning_rate_share(progress, total=100, warmup=0.1, final_share=0.0)
        assert share(updates) == pytest.approx(expected)


def test_it_learns_a_short_text_by_heart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question:\n" * 12)
    options: dict[str, Any] = {"updates": 200, "dev_every": 100, "window": 32, "learning_rate": 0.03}
    network = NetworkConfig(layers=1, hidden=32, layer_dropout=0, output_dropout=0, weight_dropout=0)
    train(tmp_path / "text.txt", tmp_path / "out", sentences="raw", network=network, training=options)
    printed = capsys.readouterr().out
    nats = float(printed.split("dev: nats a character: ")[1].split()[0])
    assert nats < 0.3
    lm = load_neural(tmp_path / "out" / "model")
    from asr_lstm.lm.neural.generate import generate

    text = "".join(generate(lm, prompt="to be or", length=34, temperature=0))
    assert text == " not to be, that is the question:\n"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["metrics"]["dev"]["nats a character"] == pytest.approx(nats, abs=1e-4)
    assert results["parameters"] == lm.parameters
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "nats a character" in card
    assert (tmp_path / "out" / "texts" / "train.txt").read_text().startswith("to be or not")


class Interrupting:
    """Sends this process SIGINT when so many stretches were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
        self.seen: list[int] = []
        self.sent = False
        get = Stretches.__getitem__

        def counted(stretches: Stretches, update: int) -> Any:
            self.seen.append(update)
            if update == at and not self.sent:
                self.sent = True
                os.kill(os.getpid(), signal.SIGINT)
            return get(stretches, update)

        monkeypatch.setattr(Stretches, "__getitem__", counted)


@pytest.mark.parametrize("at", [4, 5, 6])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    options = {"updates": 10, "dev_every": 4}
    network = NetworkConfig(layers=2, hidden=8, weight_dropout=0.3)
    train(text, tmp_path / "whole", network=network, training=options)
    seen = Interrupting(monkeypatch, at=at).seen
    with pytest.raises(TrainingInterrupted, match="the same command goes on"):
        train(text, tmp_path / "parted", network=network, training=options)
    assert not (tmp_path / "parted" / "model").exists()
    seen.clear()
    train(text, tmp_path / "parted", network=network, training=options)
    assert seen[0] >= at - 1
    assert seen[-1] == 9
    whole, parted = (
        load_neural(tmp_path / name / "model").model.state_dict() for name in ("whole", "parted")
    )
    for name, weights in whole.items():
        torch.testing.assert_close(parted[name], weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_update_is_heeded_and_signals_are_given_back(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    started, before = LanguageTraining.on_train_start, signal.getsignal(number)
    train(text, tmp_path / "whole")
    assert signal.getsignal(number) is before

    def interrupted(task: LanguageTraining) -> None:
        started(task)
        signal.raise_signal(number)

    for _ in range(2):  # the second time it is a run that is gone on with
        with monkeypatch.context() as patch:
            patch.setattr(LanguageTraining, "on_train_start", interrupted)
            with pytest.raises(TrainingInterrupted, match="the same command goes on"):
                train(text, tmp_path / "parts")
        assert signal.getsignal(number) is before
    train(text, tmp_path / "parts")
    assert signal.getsignal(number) is before
    whole, parts = (load_neural(tmp_path / name / "model").model for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_done_is_not_done_again(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    train(text, tmp_path / "out")
    first, time = (
        capsys.readouterr().out,
        (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns,
    )
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        train(text, tmp_path / "out")
    assert capsys.readouterr().out == first
    assert "trained already" in caplog.text
    assert (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns == time
    train(text, tmp_path / "out", seed=2)
    assert (tmp_path / "out" / "model" / "model.safetensors").stat().st_mtime_ns > time
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 1


def test_time_ends_training(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "out", training={"updates": 100_000, "max_minutes": 1e-6})
    tensors = torch.load(next((tmp_path / "out").glob("checkpoints/*/last.ckpt")), weights_only=True)
    assert tensors["update"] == 1
    assert measure(load_neural(tmp_path / "out" / "model"), "the cat\n").characters == 8


def test_words_and_what_others_compare_with(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "out", units="words", vocabulary=4, dev=0.2, test=0.1)
    lm = load_neural(tmp_path / "out" / "model")
    assert len(lm.units) == 6
    assert (tmp_path / "out" / "texts" / "vocabulary.txt").read_text().split() == list(lm.units.symbols[1:])
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    assert metrics["test"]["words"] == len((tmp_path / "out" / "texts" / "test.txt").read_text().split())
    assert metrics["dev"]["unknown words"] > 0


def test_a_language_model_takes_the_place_of_no_recogniser(
    text: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "mine" / "model")
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "mine").rglob("*") if path.is_file())
    with pytest.raises(ConfigError, match=r"output: .* is the folder of a recogniser"):
        train(text, tmp_path / "mine")
    assert before == sorted((path, path.read_bytes()) for path, _ in before)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").touch()
    with pytest.raises(ConfigError, match=r"output: .* is the folder of a recogniser"):
        train(text, tmp_path / "begun")
    with folder_lock(tmp_path / "out"), pytest.raises(ConfigError, match="is at work there"):
        train(text, tmp_path / "out")


def test_the_units_of_a_recogniser(
    text: Path, tmp_path: Path, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.txt").write_text("A bad dab!\nCab; bead.\nzebra\n" * 20)
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        train(text, tmp_path / "out", recogniser=tiny_bundle)
    assert "lines left out" in caplog.text
    lm, units = load_neural(tmp_path / "out" / "model"), load_bundle(tiny_bundle).units
    assert tuple(lm.units.symbols) == tuple(units.symbols)  # type: ignore[attr-defined]
    assert NeuralUnits(lm, units).start()[0].shape == (1, len(units))  # type: ignore[arg-type]
    assert set((tmp_path / "out" / "texts" / "train.txt").read_text()) == set("abcde \n")


@pytest.mark.parametrize(
    ("error", "problem", "options"),
    [
        (ConfigError, "recogniser: its units are characters", {"units": "words", "recogniser": Path("x")}),
        (ConfigError, "absent: not a model", {"recogniser": Path("absent")}),
        (ConfigError, "how many pieces", {"units": "sentencepiece", "vocabulary": Path("words.txt")}),
        (DataError, "no words are left", {"units": "words", "vocabulary": 0}),
        (DataError, "absent", {"units": "words", "vocabulary": Path("absent")}),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    text: Path, tmp_path: Path, error: type[Exception], problem: str, options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=problem) as raised:
        train(text, tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"updates": 0}, {"window": 0}, {"learning_rate": 0.0}, {"warmup": 2.0}, {"max_minutes": -1.0}]
)
def test_settings_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"training.{next(iter(options))}"):
        LMTrainingConfig(**options)


@pytest.mark.parametrize("name", ["characters", "words"])
def test_the_recipes_configurations_can_be_read(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(lstm_train_command)
    path = ROOT / "recipes" / "language_model" / f"{name}.yaml"
    options = parser.instantiate(
        parser.parse_args([f"--config={path}", "--text=[a.txt, b.txt]", "--dev=dev.txt"])
    )
    assert options.text == [Path("a.txt"), Path("b.txt")]
    assert options.dev == Path("dev.txt")
    assert options.units == name
    assert isinstance(options.network, NetworkConfig)
    assert isinstance(options.training, LMTrainingConfig)
