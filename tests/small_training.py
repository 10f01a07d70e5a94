"""A training so small that many of them fit into a test: letters that are a few noisy frames each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from asr_lstm import parallel
from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import Batch, DataConfig
from asr_lstm.data import SpeechData
from asr_lstm.errors import AudioError
from asr_lstm.features import FeatureConfig
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.phones import Phones
from asr_lstm.schedule import TrainingConfig
from asr_lstm.training import CTCTraining
from asr_lstm.units import CharacterUnits, Normaliser

LETTERS = "abc"
EPOCHS = 2
SEED = 7


def utterances(count: int, *, seed: int) -> list[Utterance]:
    random = np.random.default_rng(seed)
    texts = ["".join(random.choice(list(LETTERS), size=random.integers(2, 9))) for _ in range(count)]
    return [
        Utterance(Path(f"/nowhere/{seed}-{number}.npy"), text, 0.04 * len(text))
        for number, text in enumerate(texts)
    ]


TRAIN, DEV = utterances(41, seed=1), utterances(11, seed=2)


def pulses(utterance: Utterance) -> np.ndarray:
    """Four frames of 10 ms a letter."""
    random = np.random.default_rng([int(part) for part in utterance.id.split("-")])
    frames = np.repeat(
        np.eye(len(LETTERS) + 1)[[LETTERS.index(letter) for letter in utterance.text]], 4, axis=0
    )
    frames[3::4] = 0
    return (frames + random.normal(scale=0.2, size=frames.shape)).astype(np.float32)


class Lacking:
    """`pulses`, but for some utterances that cannot be read."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def __call__(self, utterance: Utterance) -> np.ndarray:
        if utterance.id in self.ids:
            raise AudioError(f"{utterance.path}: it went bad")
        return pulses(utterance)


def make(
    *,
    load: Loader = pulses,
    dropout: float = 0.0,
    workers: int = 0,
    unreadable: Path | None = None,
    phones: Phones | None = None,
    time_reduction: tuple[int, ...] = (),
    **training: Any,
) -> tuple[CTCTraining, SpeechData]:
    lightning.seed_everything(SEED, verbose=False)
    units = CharacterUnits(list(LETTERS), Normaliser())
    features = FeatureConfig(kind="frames", dims=len(LETTERS) + 1, stack=1, hop_ms=10)
    encoder = EncoderConfig(
        layers=2, hidden=8, layer_dropout=dropout, state_dropout=dropout, time_reduction=time_reduction
    )
    augment = AugmentConfig(frequency_masks=1, time_masks=1) if dropout else None
    config = TrainingConfig(epochs=EPOCHS, learning_rate=0.02, **training)
    data = SpeechData(
        TRAIN,
        DEV,
        units,
        load,
        config=DataConfig(batch_seconds=0.9, eval_seconds=1.0, workers=workers),
        augment=None,
        seed=SEED,
        accumulate=config.accumulate,
        phones=phones,
    )
    task = CTCTraining(
        Recogniser(features, encoder, units=len(units), phones=len(phones) if phones else 0, augment=augment),
        units,
        config=config,
        phones=0.3 if phones else 0.0,
        total_updates=data.total_updates(EPOCHS),
        references=[utterance.text for utterance in DEV],
        unreadable=unreadable,
    )
    return task, data


class Diary(Callback):
    """Loss of each update, and which utterances were met."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.train: list[list[int]] = []
        self.dev: list[list[int]] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        epoch = trainer.current_epoch
        self.train += [[] for _ in range(epoch + 1 - len(self.train))]
        self.train[epoch] += batch.indices.tolist()
        if trainer.datamodule.sampler.at_update or trainer.is_last_batch:
            self.losses.append(float(outputs["loss"]))

    def on_validation_start(self, *args: Any) -> None:
        self.dev.append([])

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *args: Any
    ) -> None:
        self.dev[-1] += batch.indices.tolist()


def train(task: CTCTraining, data: SpeechData, *callbacks: Callback, **options: Any) -> Diary:
    diary = Diary()
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": EPOCHS,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "callbacks": [diary, *callbacks],
    }
    settings |= parallel.trainer_options(devices=parallel.world(), nodes=1)
    lightning.Trainer(**settings | options).fit(task, datamodule=data)
    return diary


def weights(task: CTCTraining) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in task.model.parameters()])
