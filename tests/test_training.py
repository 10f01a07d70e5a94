"""The schedule, the loss, and training itself: repeatable, interruptible, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import small_training as small
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from asr_lstm.augment import AugmentConfig, WaveformAugmentation
from asr_lstm.batching import DataConfig, Draw, Example
from asr_lstm.data import AudioCache, SpeechData, UtteranceDataset
from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.lstm import Dropout, LSTMLayer
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.progress import ProgressReport
from asr_lstm.schedule import TrainingConfig, learning_rate_share
from asr_lstm.training import CTCTraining
from asr_lstm.units import CharacterUnits, Normaliser

LETTERS = "abcd"
# Losses of the first 20 steps of `tones`, as first recorded; other processors differ in the last digits.
GOLDEN = Path(__file__).parent / "assets" / "golden_losses.txt"


def tone_speech(utterance: Utterance) -> np.ndarray:
    """Synthetic: each letter is 0.1 s of its own pitch."""
    time = np.arange(800) / 8000
    tones = [np.sin(2 * np.pi * (400 + 500 * LETTERS.index(letter)) * time) for letter in utterance.text]
    return (0.3 * np.concatenate(tones)).astype(np.float32)


def utterances(count: int, *, seed: int) -> list[Utterance]:
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list(LETTERS), size=random.integers(2, 7))) for _ in range(count)]
    return [
        Utterance(Path(f"{seed}-{index}"), text, duration=0.1 * len(text)) for index, text in enumerate(texts)
    ]


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.values.append(float(outputs["loss"]))


def make(*, workers: int = 0) -> tuple[CTCTraining, SpeechData]:
    lightning.seed_everything(7, verbose=False)
    train, dev = utterances(40, seed=1), utterances(10, seed=2)
    units = CharacterUnits(list(LETTERS), Normaliser())
    features = FeatureConfig(rate=8000, mels=20, stack=2)
    encoder = EncoderConfig(layers=1, hidden=24, state_dropout=0.1, layer_dropout=0.1)
    model = Recogniser(features, encoder, units=len(units), augment=AugmentConfig())
    model.front_end.fit(torch.as_tensor(tone_speech(utterance)) for utterance in train)
    config = DataConfig(batch_seconds=2.0, workers=workers)
    augment = WaveformAugmentation(AugmentConfig(), rate=features.rate, seed=7)
    data = SpeechData(train, dev, units, tone_speech, config=config, augment=augment, seed=7)
    task = CTCTraining(
        model,
        units,
        config=TrainingConfig(epochs=8, learning_rate=1e-2),
        total_updates=data.total_updates(8),
        references=[utterance.text for utterance in dev],
    )
    return task, data


def trainer(tmp_path: Path, *callbacks: Callback, epochs: int = 8, steps: int = -1) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=epochs,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )


def losses(tmp_path: Path, *, workers: int = 0) -> list[float]:
    task, data = make(workers=workers)
    kept = Losses()
    trainer(tmp_path, kept, steps=20).fit(task, datamodule=data)
    return kept.values


def test_same_seed_gives_identical_losses_over_20_steps(tmp_path: Path) -> None:
    first = losses(tmp_path)
    assert len(first) == 20
    assert losses(tmp_path) == first
    golden = [float(line) for line in GOLDEN.read_text().splitlines()]
    assert first == pytest.approx(golden, rel=1e-3)


def test_worker_processes_do_not_change_the_losses(tmp_path: Path) -> None:
    assert losses(tmp_path, workers=1) == losses(tmp_path)


def test_progress_names_epoch_loss_and_dev_wer(tmp_path: Path) -> None:
    task, data = make()
    console = Console(record=True, width=200, force_terminal=False)
    trainer(tmp_path, ProgressReport(task.total_updates, console=console), epochs=2).fit(
        task, datamodule=data
    )
    lines = console.export_text().splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("loss" in line and "dev WER" in line and "left" in line for line in lines)


def test_learning_rate_rises_then_falls_to_its_final_share() -> None:
    shares = [learning_rate_share(update, total=100, warmup=0.1, final_share=0.05) for update in range(110)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[55] == pytest.approx(0.05 + 0.95 / 2)
    assert shares[105] == pytest.approx(0.05)


def test_training_refuses_characters_that_the_units_lack_and_dev_passes_over_them() -> None:
    units = CharacterUnits(["a", "b"], Normaliser())
    rows = [Utterance(Path("x.wav"), "abxa", 1.0)]
    with pytest.raises(DataError, match=r"x.*lack"):
        UtteranceDataset(rows, units, tone_speech)
    example = UtteranceDataset(rows, units, lambda _: np.zeros(10, np.float32), lenient=True)[Draw(0, 0)]
    assert isinstance(example, Example)
    assert example.units == [1, 2, 1]


def test_the_cache_tells_files_of_one_id_apart() -> None:
    train, dev = (
        Utterance(Path(folder) / "001.wav", text, 0.3) for folder, text in (("train", "abc"), ("dev", "ddd"))
    )
    assert train.id == dev.id
    cache = AudioCache(tone_speech, gib=1.0)
    assert np.abs(cache(train) - cache(dev)).max() > 0.1


def test_the_cache_loads_once_and_keeps_to_its_budget() -> None:
    rows = [Utterance(Path("one"), "abc", 0.3), Utterance(Path("two"), "abcd", 0.4)]
    loaded: list[str] = []

    def load(utterance: Utterance) -> np.ndarray:
        loaded.append(utterance.id)
        return tone_speech(utterance)

    cache = AudioCache(load, gib=2 * 2400 / 2**30)  # the first one's 2400 samples of 2 bytes, and no more
    for _ in range(2):
        for row in rows:
            assert np.abs(cache(row) - tone_speech(row)).max() < 1 / 32767
    assert loaded == ["one", "two", "two"]


@pytest.mark.parametrize(
    "options", [{}, {"intermediate": 0.3, "consistency": 0.2}], ids=["plain", "two_views"]
)
def test_recomputed_layers_make_the_same_training(options: dict[str, float]) -> None:
    task, data = small.make(dropout=0.2, **options)
    again, data_again = small.make(dropout=0.2, recompute=True, **options)
    assert small.train(again, data_again).losses == small.train(task, data).losses
    assert torch.equal(small.weights(task), small.weights(again))


@pytest.mark.parametrize("options", [{"intermediate": 0.3}, {"consistency": 0.2}], ids=list)
def test_what_is_added_to_the_loss_adds_nothing_to_the_model_and_lets_it_learn(
    options: dict[str, float],
) -> None:
    plain, data = small.make(dropout=0.1)
    before = small.train(plain, data)
    task, data = small.make(dropout=0.1, **options)
    diary = small.train(task, data)
    assert {name: value.shape for name, value in task.model.state_dict().items()} == {
        name: value.shape for name, value in plain.model.state_dict().items()
    }
    assert diary.losses[0] != before.losses[0]
    assert diary.losses[-1] < 0.8 * diary.losses[0]


class Shares(Callback):
    """Of the dropout rates, those in use during each update."""

    def __init__(self) -> None:
        self.values: list[set[float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        parts = list(pl_module.model.modules())
        rated = [part for part in parts if isinstance(part, Dropout)]
        rated += [part._state_dropout for part in parts if isinstance(part, LSTMLayer)]
        self.values.append({part.present / part.rate for part in rated if part.rate})


def test_dropout_rises_from_none_to_its_rates() -> None:
    plain = small.train(*small.make()).losses
    task, data = small.make(dropout=0.3, dropout_epochs=2)
    task.model.spec_augment = None  # as without dropout
    shares = Shares()
    rising = small.train(task, data, shares).losses
    first = data.sampler.updates(0)
    assert rising[:first] == plain[:first]
    assert rising[first:] != plain[first:]
    assert [share for (share,) in shares.values] == [0.0] * first + [0.5] * (task.total_updates - first)


def test_expected_errors_count_from_their_share_of_the_updates_on() -> None:
    plain = small.train(*small.make()).losses
    late = small.train(*small.make(errors=0.9, errors_from=0.5)).losses
    half = -(-len(plain) // 2)
    assert late[:half] == plain[:half]
    assert late[half] < 0.9 * plain[half]  # a letter costs an error at most, and more than a nat by CTC


@pytest.mark.parametrize(
    "options",
    [{}, {"intermediate": 0.3, "consistency": 0.2}, {"errors": 0.5, "errors_from": 0.0, "consistency": 0.2}],
    ids=["plain", "two_views", "expected_errors"],
)
def test_bfloat16_products_follow_float32(options: dict[str, float]) -> None:
    full = small.train(*small.make(**options)).losses
    low = small.train(*small.make(**options), precision="bf16-mixed").losses
    assert low == pytest.approx(full, rel=0.05)
    assert low != full


def test_accumulated_batches_are_fewer_updates_and_no_batch_is_lost() -> None:
    task, data = small.make(accumulate=3)
    diary = small.train(task, data)
    updates = [-(-len(data.sampler.plan(epoch)) // 3) for epoch in range(small.EPOCHS)]
    assert task.global_step == len(diary.losses) == sum(updates) == task.total_updates
    assert all(sorted(epoch) == list(range(len(small.TRAIN))) for epoch in diary.train)
