"""From utterances and a recipe to a trained bundle: the training stage."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from torch import Tensor

from asr_lstm import parallel
from asr_lstm.allocator import keep_freed_memory
from asr_lstm.augment import make_augmentation
from asr_lstm.bundle import Bundle, save_bundle
from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import CheckpointFolder, average_weights
from asr_lstm.config import Recipe
from asr_lstm.corpora.validate import write_dropped
from asr_lstm.data import AudioCache, SpeechData, readable
from asr_lstm.gradients import GradientWatch
from asr_lstm.init_from import initialise
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.model import Recogniser
from asr_lstm.preflight import check_training_data
from asr_lstm.progress import ProgressReport
from asr_lstm.recognise import AUDIO_LOADER
from asr_lstm.resume import finish_run, open_run
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.training import CTCTraining
from asr_lstm.unit_kinds import make_units
from asr_lstm.units import Units

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
        resumed: how often training was gone on with after an interruption.
    """

    parameters: int
    train_seconds: float
    train_hours_of_audio: float
    best_dev_wer: float | None
    precision: str
    resumed: int


def fit(
    recipe: Recipe,
    *,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    load: Loader,
    output: Path,
    key: str,
    settings: Mapping[str, Any],
    fresh: bool = False,
    console: Console,
) -> Outcome:
    """Train as the recipe says and save the best bundle in `output/model`.

    Checkpoints go to `output/checkpoints/KEY`: a run that was interrupted goes on from there when the key is the same,
    and what other keys left is removed, unless it is a run that is not done.

    Args:
        recipe: model and training.
        train: utterances to learn from; those that CTC cannot fit are dropped and listed.
        dev: utterances to choose the best checkpoint by.
        load: reads an utterance.
        output: folder of the experiment.
        key: names everything that this run depends on.
        settings: the same in full, to say what has changed.
        fresh: start over, whatever there is.
        console: for the preflight's summary.

    Raises:
        ConfigError: a run of other settings is not done, or the checkpoints are of another model or version.
        DataError: nothing is left to train on, or a transcript has characters that the units lack.
        TrainingInterrupted: by Ctrl-C; a checkpoint stands.
    """
    folder = open_run(output / "checkpoints", key, settings=settings, fresh=fresh)
    options: dict[str, Any] = {"train": train, "dev": dev, "load": load, "output": output, "folder": folder}
    training = recipe.training
    job = partial(_fit, recipe, **options)
    with parallel.together(job, devices=training.devices, nodes=training.num_nodes):
        return _fit(recipe, **options, console=console)


def _fit(
    recipe: Recipe,
    *,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    load: Loader,
    output: Path,
    folder: CheckpointFolder,
    console: Console | None = None,
) -> Outcome:
    """Train in this process; without a console nothing is shown and no result is written."""
    _quieten_lightning()
    keep_freed_memory()
    lightning.seed_everything(recipe.seed, verbose=False)
    units = make_units(recipe.units, train, recipe.text)
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
    if console:
        console.print(preflight.summary(), highlight=False, soft_wrap=True)
        write_dropped(output / "logs" / "dropped.tsv", preflight.dropped)
    train = preflight.kept
    if audio:
        load = AudioCache(load, gib=recipe.data.cache_gib)

    model = _first_model(recipe, units, readable(load, _spread(train)))
    data = SpeechData(
        train,
        dev,
        units,
        load,
        config=recipe.data,
        augment=augment,
        seed=recipe.seed,
        accumulate=recipe.training.accumulate,
    )
    task = CTCTraining(
        model,
        units,
        config=recipe.training,
        total_updates=data.total_updates(recipe.training.epochs),
        references=[recipe.text(utterance.text) for utterance in dev],
        unreadable=output / "logs" / "unreadable.tsv" if console else None,
    )
    keeper = _run(recipe, task, data, folder=folder, logs=output / "logs")
    parallel.wait_for_all()
    best = _choose(recipe, task, data, keeper=keeper)
    bundle = Bundle(model, units, recipe.features, recipe.encoder, loader=recipe.corpus.load or AUDIO_LOADER)
    if console:
        save_bundle(output / "model", bundle)
        finish_run(folder)
    return Outcome(
        parameters=bundle.parameters,
        train_seconds=task.seconds,
        train_hours_of_audio=preflight.figures.hours,
        best_dev_wer=best,
        precision=choose_precision(recipe.training),
        resumed=keeper.state.resumed,
    )


def _first_model(recipe: Recipe, units: Units, inputs: Iterable[Tensor]) -> Recogniser:
    """The model that training begins with, its front end fitted to some inputs."""
    model = Recogniser(recipe.features, recipe.encoder, units=len(units), augment=recipe.augment)
    model.front_end.fit(inputs)
    if recipe.training.init:
        initialise(
            model, units, features=recipe.features, encoder=recipe.encoder, bundle=recipe.training.init
        )
    return model


def _run(
    recipe: Recipe, task: CTCTraining, data: SpeechData, *, folder: CheckpointFolder, logs: Path
) -> Checkpointer:
    """Train to the end, from where the last checkpoint stands."""
    snapshot = folder.latest()
    keeper = Checkpointer(folder, data, config=recipe.training, snapshot=snapshot)
    keeper.restore(task)
    if keeper.state.ended:
        return keeper
    if snapshot is not None and parallel.rank() == 0:
        state = keeper.state
        log.warning("going on from epoch %d, batch %d (%s)", state.epoch + 1, state.position, folder.folder)
    if keeper.judging_is_due:
        with keeper.average.applied() if keeper.average else nullcontext():
            keeper.state.ended = not keeper.judge(task, _dev_wer(recipe, task, data))
        data.sampler.next_epoch()
        if keeper.state.ended:
            return keeper
    logger = TensorBoardLogger(logs, name="tensorboard", version=folder.folder.name)
    callbacks = [keeper, GradientWatch(recipe.features.hop_ms * recipe.features.stack / 1000)]
    if parallel.rank() == 0:
        callbacks.append(ProgressReport(task.total_updates))
    _trainer(recipe, *callbacks, logger=logger).fit(task, datamodule=data)
    return keeper


def _choose(recipe: Recipe, task: CTCTraining, data: SpeechData, *, keeper: Checkpointer) -> float | None:
    """Leave the best weights in the task's model, or the mean of the best, and return their WER on dev."""
    best = keeper.state.best
    if not best:  # not one epoch came to its end in the time that there was
        return None
    single = keeper.folder.weights(best[0].file)
    if len(best) > 1:
        mean = average_weights([single, *(keeper.folder.weights(judged.file) for judged in best[1:])])
        task.model.load_state_dict(mean)
        wer = _dev_wer(recipe, task, data)
        log.info(
            "mean of the %d best epochs: dev WER %.4f; the best alone: %.4f", len(best), wer, best[0].wer
        )
        if wer <= best[0].wer:
            return wer
    task.model.load_state_dict(single)
    return best[0].wer


def _dev_wer(recipe: Recipe, task: CTCTraining, data: SpeechData) -> float:
    """Judge the weights of the moment on dev, outside training."""
    (metrics,) = _trainer(recipe).validate(task, datamodule=data, verbose=False)
    return float(metrics["dev_wer"])


def _trainer(
    recipe: Recipe, *callbacks: Callback, logger: TensorBoardLogger | bool = False
) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=recipe.training.epochs,
        accelerator={"cpu": "cpu", "cuda": "gpu"}[torch_device(recipe.training)],
        **parallel.trainer_options(devices=recipe.training.devices, nodes=recipe.training.num_nodes),
        precision=choose_precision(recipe.training),
        use_distributed_sampler=False,  # the plan of batches is our own
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=logger,
        log_every_n_steps=10,  # an epoch of the smallest corpora has no more
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _spread(utterances: Sequence[Utterance]) -> Sequence[Utterance]:
    step = max(1, len(utterances) // NORMALISATION_UTTERANCES)
    return utterances[::step]


def _quieten_lightning() -> None:
    """Lightning's hints speak of other set-ups than ours; its errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
