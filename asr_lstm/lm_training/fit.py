"""From a text and settings to a trained language model."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from asr_lstm.allocator import keep_freed_memory
from asr_lstm.lm.neural.network import LanguageModel
from asr_lstm.lm.neural.text_units import Ids
from asr_lstm.lm_training.callbacks import InterruptSaver, LookReport
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.stretches import Position, Round, Stretches
from asr_lstm.lm_training.task import LanguageTraining
from asr_lstm.schedule import TrainingConfig, choose_precision, torch_device

log = logging.getLogger(__name__)


def fit_language_model(
    model: LanguageModel,
    *,
    train: Ids,
    dev: Ids,
    config: LMTrainingConfig,
    checkpoints: Path,
    logs: Path,
    seed: int,
) -> float:
    """Train a model and leave in it the weights that did best on dev.

    A run that was interrupted goes on from `checkpoints/last.ckpt`; what other runs left beside `checkpoints` is
    removed.

    Args:
        model: the network.
        train: units to learn from.
        dev: units to choose the best weights by.
        config: how to train.
        checkpoints: a folder by the name of all that this run depends on.
        logs: folder for TensorBoard's logs.
        seed: of everything random.

    Returns:
        Seconds of training, over all its sittings.

    Raises:
        DataError: too little text.
        TrainingInterrupted: by Ctrl-C; a checkpoint stands.
    """
    _quieten_lightning()
    keep_freed_memory()
    lightning.seed_everything(seed, verbose=False)
    position = Position()
    stretches = Stretches(train, batch=config.batch, window=config.window, seed=seed)
    task = LanguageTraining(model, config=config, dev=dev, position=position, seed=seed)
    rounds = Round(stretches, position, every=config.dev_every, total=config.updates)
    last = _last_checkpoint(checkpoints)
    keeper = ModelCheckpoint(
        checkpoints,
        "best",
        monitor="dev_loss",
        mode="min",
        save_on_train_epoch_end=False,  # at the look itself, before an interrupt is heeded
        enable_version_counter=False,
    )
    trainer = _make_trainer(config, keeper, last=last, logs=logs)
    if last.exists():
        log.warning("going on from %s", last)
    whole_dev: DataLoader[Any] = DataLoader([0], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(
        task,
        DataLoader(rounds, batch_size=None),
        whole_dev,
        ckpt_path=str(last) if last.exists() else None,
        weights_only=True,
    )
    state = torch.load(keeper.best_model_path or last, map_location="cpu", weights_only=True)["state_dict"]
    task.load_state_dict(state)
    model.cpu().eval()
    return task.seconds


def _make_trainer(
    config: LMTrainingConfig, keeper: ModelCheckpoint, *, last: Path, logs: Path
) -> lightning.Trainer:
    """A quiet trainer for this machine; `keeper` keeps the best weights, and `last` what a run goes on from."""
    machine = machine_settings(config)
    folder = last.parent
    return lightning.Trainer(
        max_epochs=-(-config.updates // config.dev_every),
        callbacks=[
            keeper,
            ModelCheckpoint(folder, last.stem, save_on_train_epoch_end=True, enable_version_counter=False),
            EarlyStopping("dev_loss", mode="min", patience=config.patience),
            InterruptSaver(last),
            LookReport(),
        ],
        logger=TensorBoardLogger(logs, name="tensorboard", version=folder.name),
        accelerator={"cpu": "cpu", "cuda": "gpu"}[torch_device(machine)],
        devices=1,
        precision=choose_precision(machine),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def machine_settings(config: LMTrainingConfig) -> TrainingConfig:
    """Device and precision as a recogniser's training has them; they mean the same here."""
    return TrainingConfig(precision=config.precision, device=config.device)


def _last_checkpoint(checkpoints: Path) -> Path:
    """Where this run's checkpoint stands or will stand; those of other runs are removed."""
    for other in checkpoints.parent.glob("*"):
        if other.is_dir() and other.name != checkpoints.name:
            shutil.rmtree(other)
    checkpoints.mkdir(parents=True, exist_ok=True)
    return checkpoints / "last.ckpt"


def _quieten_lightning() -> None:
    """Lightning's hints speak of other set-ups than ours; its errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
