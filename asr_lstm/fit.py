"""From utterances and a recipe to a trained bundle: the training stage."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from asr_lstm.allocator import keep_freed_memory
from asr_lstm.augment import make_augmentation
from asr_lstm.bundle import Bundle, save_bundle
from asr_lstm.callbacks import InterruptSaver, ProgressReport
from asr_lstm.config import Recipe
from asr_lstm.corpora.validate import write_dropped
from asr_lstm.data import AudioCache, SpeechData
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.model import Recogniser
from asr_lstm.preflight import check_training_data
from asr_lstm.recognise import AUDIO_LOADER
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.training import CTCTraining
from asr_lstm.units import CharacterUnits

log = logging.getLogger(__name__)

# So many utterances, spread evenly, settle the mean and deviation of each band.
NORMALISATION_UTTERANCES = 500


@dataclass(frozen=True)
class Outcome:
    """What the training stage leaves for the report.

    Attributes:
        parameters: how many numbers were trained.
        train_seconds: wall clock of training, over all its sittings.
        train_hours_of_audio: what it learned from, before augmentation.
        best_dev_wer: of the checkpoint that became the bundle.
        precision: of the matrix products, in Lightning's words.
    """

    parameters: int
    train_seconds: float
    train_hours_of_audio: float
    best_dev_wer: float | None
    precision: str


def fit(
    recipe: Recipe,
    *,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    load: Loader,
    output: Path,
    key: str,
    console: Console,
) -> Outcome:
    """Train as the recipe says and save the best bundle in `output/model`.

    Checkpoints go to `output/checkpoints/KEY`: a run that was interrupted goes on from there when the key is
    the same, and what other keys left is removed.

    Args:
        recipe: model and training.
        train: utterances to learn from; those that CTC cannot fit are dropped and listed.
        dev: utterances to choose the best checkpoint by.
        load: reads an utterance.
        output: folder of the experiment.
        key: names everything that this run depends on.
        console: for the preflight's summary.

    Raises:
        DataError: nothing is left to train on, or a transcript has characters that the units lack.
        TrainingInterrupted: by Ctrl-C; a checkpoint stands.
    """
    _quieten_lightning()
    keep_freed_memory()
    lightning.seed_everything(recipe.seed, verbose=False)
    units = CharacterUnits.from_texts((utterance.text for utterance in train), recipe.text)
    audio = recipe.features.kind == "log_mel"
    augment = make_augmentation(recipe.augment, recipe.features, seed=recipe.seed)
    speed = recipe.augment.speed if audio else 0.0
    preflight = check_training_data(
        train,
        units=units,
        features=recipe.features,
        encoder=recipe.encoder,
        speed=speed,
        batch_seconds=recipe.data.batch_seconds,
    )
    console.print(preflight.summary(), highlight=False, soft_wrap=True)
    write_dropped(output / "logs" / "dropped.tsv", preflight.dropped)
    train = preflight.kept
    if audio:
        load = AudioCache(load, gib=recipe.data.cache_gib)

    model = Recogniser(recipe.features, recipe.encoder, units=len(units), augment=recipe.augment)
    model.front_end.fit(torch.as_tensor(load(utterance)) for utterance in _spread(train))
    data = SpeechData(train, dev, units, load, config=recipe.data, augment=augment, seed=recipe.seed)
    task = CTCTraining(
        model,
        units,
        config=recipe.training,
        total_updates=data.total_updates(recipe.training.epochs),
        references=[recipe.text(utterance.text) for utterance in dev],
    )
    checkpoints = _fresh_checkpoints(output / "checkpoints", key)
    best = _run(recipe, task, data, checkpoints=checkpoints, logs=output / "logs")
    bundle = Bundle(model, units, recipe.features, recipe.encoder, loader=recipe.corpus.load or AUDIO_LOADER)
    save_bundle(output / "model", bundle)
    return Outcome(
        parameters=bundle.parameters,
        train_seconds=task.seconds,
        train_hours_of_audio=sum(utterance.duration for utterance in train) / 3600,
        best_dev_wer=best,
        precision=choose_precision(recipe.training),
    )


def _run(
    recipe: Recipe, task: CTCTraining, data: SpeechData, *, checkpoints: Path, logs: Path
) -> float | None:
    """Train, leave the best weights in the task's model, and return their WER on dev."""
    last = checkpoints / "last.ckpt"
    keeper = ModelCheckpoint(checkpoints, "best", monitor="dev_wer", mode="min", enable_version_counter=False)
    callbacks: list[Callback] = [
        keeper,
        ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False),
        EarlyStopping("dev_wer", mode="min", patience=recipe.training.patience),
        InterruptSaver(last),
        ProgressReport(task.total_updates),
    ]
    trainer = lightning.Trainer(
        max_epochs=recipe.training.epochs,
        accelerator={"cpu": "cpu", "cuda": "gpu"}[torch_device(recipe.training)],
        devices=1,
        precision=choose_precision(recipe.training),
        use_distributed_sampler=False,  # the plan of batches is our own
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=TensorBoardLogger(logs, name="tensorboard", version=checkpoints.name),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if last.exists():
        log.warning("going on from %s", last)
    trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    state = torch.load(keeper.best_model_path or last, map_location="cpu", weights_only=True)["state_dict"]
    task.load_state_dict(state)
    return float(keeper.best_model_score) if keeper.best_model_score is not None else None


def _spread(utterances: Sequence[Utterance]) -> Sequence[Utterance]:
    step = max(1, len(utterances) // NORMALISATION_UTTERANCES)
    return utterances[::step]


def _fresh_checkpoints(folder: Path, key: str) -> Path:
    """The folder of this run's checkpoints; those of other runs are removed."""
    for other in folder.glob("*"):
        if other.is_dir() and other.name != key:
            shutil.rmtree(other)
    (folder / key).mkdir(parents=True, exist_ok=True)
    return folder / key


def _quieten_lightning() -> None:
    """Lightning's hints speak of other set-ups than ours; its errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
