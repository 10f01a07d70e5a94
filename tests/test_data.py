"""Training data is augmented by its draws' seeds alone; data to choose by never is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from asr_lstm.augment import AugmentConfig, WaveformAugmentation
from asr_lstm.batching import Batch, DataConfig, Draw
from asr_lstm.data import SpeechData, UtteranceDataset
from asr_lstm.manifest import Utterance
from asr_lstm.units import CharacterUnits, Normaliser

RATE = 8000
UNITS = CharacterUnits(["a"], Normaliser())
ROWS = [Utterance(Path(f"{index}.wav"), "a", 0.2 + index / 50) for index in range(12)]
EVERYTHING = AugmentConfig(speed=0.1, room=0.5, noise=0.5, gain=0.5, telephone=0.5)


def load(utterance: Utterance) -> np.ndarray:
    random = np.random.default_rng(int(utterance.path.stem))
    return (0.1 * random.standard_normal(round(utterance.duration * RATE))).astype(np.float32)


def make(config: AugmentConfig | None, *, workers: int = 0, seed: int = 7) -> SpeechData:
    augment = WaveformAugmentation(config, rate=RATE, seed=seed) if config else None
    options = DataConfig(batch_seconds=1.0, workers=workers)
    return SpeechData(ROWS, ROWS, UNITS, load, config=options, augment=augment, seed=seed)


def by_index(batches: list[Batch]) -> dict[int, torch.Tensor]:
    return {
        int(index): inputs[:length]
        for batch in batches
        for index, inputs, length in zip(batch.indices, batch.inputs, batch.lengths, strict=True)
    }


def test_training_hears_what_the_augmentation_makes_of_each_draw() -> None:
    seen: list[int] = []

    def augment(audio: np.ndarray, seed: int) -> np.ndarray:
        seen.append(seed)
        return -audio[:100]

    dataset = UtteranceDataset(ROWS, UNITS, load, augment=augment)
    example = dataset[Draw(3, 2**62)]
    assert example is not None
    assert seen == [2**62]
    assert np.array_equal(example.inputs.numpy(), -load(ROWS[3])[:100])


def test_dev_data_are_never_augmented() -> None:
    heard = by_index(list(make(EVERYTHING).val_dataloader()))
    for index, row in enumerate(ROWS):
        assert np.array_equal(heard[index].numpy(), load(row))


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_knows_nothing_of_workers_and_batches(workers: int) -> None:
    data = make(EVERYTHING, workers=workers)
    batches = list(data.train_dataloader())
    augment = WaveformAugmentation(EVERYTHING, rate=RATE, seed=7)
    seeds = {
        int(index): int(seed)
        for batch in batches
        for index, seed in zip(batch.indices, batch.seeds, strict=True)
    }
    heard = by_index(batches)
    assert sorted(heard) == list(range(len(ROWS)))
    for index, inputs in heard.items():
        assert np.array_equal(inputs.numpy(), augment(load(ROWS[index]), seeds[index]))


def test_each_epoch_hears_an_utterance_anew() -> None:
    data = make(EVERYTHING)
    first = by_index(list(data.train_dataloader()))
    data.sampler.next_epoch()
    second = by_index(list(data.train_dataloader()))
    assert all(not torch.equal(first[index], second[index]) for index in first)
