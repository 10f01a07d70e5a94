"""What training of a language model ends with: when it stops, whose weights it keeps, how far a step goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradient_norms import noted_norms

from asr_lstm.errors import TrainingInterrupted
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm_training.callbacks import InterruptSaver
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.fit import fit_language_model
from asr_lstm.lm_training.task import LanguageTraining

UNITS = 6


def fit(folder: Path, **training: Any) -> tuple[LanguageModel, float]:
    torch.manual_seed(1)
    network = NetworkConfig(layers=1, hidden=8, layer_dropout=0, output_dropout=0, weight_dropout=0)
    model = LanguageModel(network, units=UNITS)
    ids = np.random.default_rng(0).integers(0, UNITS, 400)
    settings = {"batch": 4, "window": 8, "dev_every": 3, "learning_rate": 0.02, "precision": "32-true"}
    seconds = fit_language_model(
        model,
        train=ids[:300],
        dev=ids[300:],
        config=LMTrainingConfig(**(settings | training)),
        checkpoints=folder / "checkpoints" / "key",
        logs=folder / "logs",
        seed=1,
    )
    return model, seconds


def test_the_weights_of_the_best_look_are_kept_and_training_stops_when_it_is_long_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([2.0, 1.0, 3.0, 3.0, 0.5])
    looks: list[dict[str, torch.Tensor]] = []

    def score(model: LanguageModel, *_: Any) -> torch.Tensor:
        looks.append({name: value.clone() for name, value in model.state_dict().items()})
        return torch.tensor([-next(losses)])

    monkeypatch.setattr("asr_lstm.lm_training.task.score_stream", score)
    model, _ = fit(tmp_path, updates=300, patience=2)
    assert len(looks) == 4
    found = model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in looks[1].items())
    assert any(not torch.equal(found[name], value) for name, value in looks[3].items())


def test_time_is_counted_over_all_sittings(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        save = LanguageTraining.on_save_checkpoint

        def long_ago(self: LanguageTraining, checkpoint: dict[str, Any]) -> None:
            save(self, checkpoint)
            checkpoint["train_seconds"] += 1000.0

        patch.setattr(LanguageTraining, "on_save_checkpoint", long_ago)
        patch.setattr(
            InterruptSaver, "on_train_batch_end", lambda self, trainer, *_, **__: self._stop(trainer)
        )
        with pytest.raises(TrainingInterrupted):
            fit(tmp_path, updates=6)
    assert 1000 < fit(tmp_path, updates=6)[1] < 2000


def test_gradients_are_clipped(tmp_path: Path) -> None:
    norms = {}
    for clip in (1e6, 0.01):
        with noted_norms() as norms[clip]:
            fit(tmp_path / str(clip), updates=3, gradient_clip=clip)
    assert norms[1e6][0] > 0.02
    assert norms[0.01][0] == pytest.approx(0.01, rel=1e-3)
    assert max(norms[0.01]) <= 0.01001


def test_what_other_runs_left_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "checkpoints" / "other"
    other.mkdir(parents=True)
    fit(tmp_path, updates=3)
    assert not other.exists()
    assert (tmp_path / "checkpoints" / "key" / "last.ckpt").exists()
