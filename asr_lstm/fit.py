"""From utterances and a recipe to a trained bundle: the training stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from asr_lstm import parallel
from asr_lstm.averaging import average_weights
from asr_lstm.bundle import Bundle, save_bundle
from asr_lstm.callbacks import Checkpointer
from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.config import Recipe
from asr_lstm.data import SpeechData
from asr_lstm.errors import TrainingInterrupted
from asr_lstm.inference import AUDIO_LOADER
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.resume import CHECKPOINTS_NAME, finish_run, open_run
from asr_lstm.schedule import choose_precision
from asr_lstm.scoring import summed_rates
from asr_lstm.set_up import make_callbacks, make_trainer, set_up
from asr_lstm.splice import Splicer
from asr_lstm.splice_again import SpliceAgain
from asr_lstm.training import CTCTraining

log = logging.getLogger(__name__)


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
    folder = open_run(output / CHECKPOINTS_NAME, key, settings=settings, fresh=fresh)
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
    logs = output / "logs"
    task, data, preflight = set_up(recipe, train=train, dev=dev, load=load, logs=logs, console=console)
    loader = recipe.corpus.load or AUDIO_LOADER
    phones = data.train_set.phones
    bundle = Bundle(
        task.model,
        task.units,
        recipe.features,
        recipe.encoder,
        loader=loader,
        phones=phones.symbols if phones else (),
    )
    keeper = _run(recipe, task, data, bundle=bundle, folder=folder, logs=logs)
    parallel.wait_for_all()
    best = _choose(recipe, task, data, keeper=keeper)
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


def _run(
    recipe: Recipe,
    task: CTCTraining,
    data: SpeechData,
    *,
    bundle: Bundle,
    folder: CheckpointFolder,
    logs: Path,
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
            keeper.state.ended = not keeper.judge(task, _judge(recipe, task, data))
        data.sampler.next_epoch()
        if keeper.state.ended:
            return keeper
    logger = TensorBoardLogger(logs, name="tensorboard", version=folder.folder.name)
    callbacks = make_callbacks(recipe, task, keeper)
    if isinstance(data.train_set.splice, Splicer) and recipe.augment.splice_again:
        again = SpliceAgain(
            data, bundle, epochs=recipe.augment.splice_again, folder=folder.folder, average=keeper.average
        )
        callbacks.insert(1, again)  # what shows the pace comes last, and does not count this
    make_trainer(recipe, *callbacks, logger=logger).fit(task, datamodule=data)
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
        metrics = _judge(recipe, task, data)
        wer, cer = metrics["dev_wer"], metrics["dev_cer"]
        log.info(
            "mean of the %d best epochs: dev WER %.4f, CER %.4f; the best alone: %.4f, %.4f",
            *(len(best), wer, cer, best[0].wer, best[0].cer),
        )
        if summed_rates(wer, cer) <= best[0].errors:
            return wer
    task.model.load_state_dict(single)
    return best[0].wer


def _judge(recipe: Recipe, task: CTCTraining, data: SpeechData) -> Mapping[str, float]:
    """Judge the weights of the moment on dev, outside training.

    Raises:
        DataError: much of the dev set cannot be read any more.
        TrainingInterrupted: by Ctrl-C.
    """
    try:
        (metrics,) = make_trainer(recipe).validate(task, datamodule=data, verbose=False)
        if task.fault is not None:  # of the dev set
            raise task.fault
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise TrainingInterrupted(
            "interrupted while dev was judged: the same command goes on from the last checkpoint"
        ) from None
    return metrics
