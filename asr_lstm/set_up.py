"""What a training is made of, as the recipe says: its module, its data, what stands beside it, its trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
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
from asr_lstm.callbacks import Checkpointer
from asr_lstm.config import Recipe
from asr_lstm.corpora.validate import write_dropped
from asr_lstm.data import AudioCache, SpeechData, readable
from asr_lstm.gradients import GradientWatch
from asr_lstm.init_from import initialise
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.model import Recogniser
from asr_lstm.phones import Phones, make_phones
from asr_lstm.preflight import Preflight, check_training_data
from asr_lstm.progress import ProgressReport
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.splice import Splicer, find_words
from asr_lstm.training import CTCTraining
from asr_lstm.unit_kinds import make_units
from asr_lstm.units import Units

log = logging.getLogger(__name__)

# So many utterances, spread evenly, settle the mean and deviation of each band.
NORMALISATION_UTTERANCES = 500


def set_up(
    recipe: Recipe,
    *,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    load: Loader,
    logs: Path,
    console: Console | None = None,
) -> tuple[CTCTraining, SpeechData, Preflight]:
    """Everything that training begins with: the module, its data, and what was found of these before.

    Args:
        recipe: model and training.
        train: utterances to learn from.
        dev: utterances to choose by.
        load: reads an utterance.
        logs: folder for the lists of what is left out.
        console: for the preflight's summary; without one nothing is shown or listed.

    Raises:
        ConfigError: words that cannot be turned into phones, as `asr_lstm.phones.make_phones` says.
        DataError: nothing is left to train on, or a transcript has characters that the units lack.
    """
    _quieten_lightning()
    keep_freed_memory()
    lightning.seed_everything(recipe.seed, verbose=False)
    units = make_units(recipe.units, train, recipe.text)
    phones = make_phones(recipe.phones, (utterance.text for utterance in train), recipe.text)
    augment = make_augmentation(recipe.augment, recipe.features, seed=recipe.seed)
    preflight = check_for_recipe(recipe, train, units)
    if console:
        console.print(preflight.summary(), highlight=False, soft_wrap=True)
        write_dropped(logs / "dropped.tsv", preflight.dropped)
        if phones and phones.remark:
            log.warning(phones.remark)
    if recipe.features.kind == "log_mel":
        load = AudioCache(load, gib=recipe.data.cache_gib)
    model = _first_model(recipe, units, phones, readable(load, _spread(preflight.kept)))
    data = SpeechData(
        preflight.kept,
        dev,
        units,
        load,
        config=recipe.data,
        augment=augment,
        seed=recipe.seed,
        accumulate=recipe.training.accumulate,
        phones=phones,
        splice=_make_splicer(recipe, preflight.kept, load) if recipe.augment.splice else None,
        fade=recipe.bootstrap.fading_epochs,
    )
    task = CTCTraining(
        model,
        units,
        config=recipe.training,
        phones=recipe.phones.share,
        total_updates=data.total_updates(recipe.training.epochs),
        references=[recipe.text(utterance.text) for utterance in dev],
        unreadable=logs / "unreadable.tsv" if console else None,
    )
    return task, data, preflight


def check_for_recipe(recipe: Recipe, train: Sequence[Utterance], units: Units) -> Preflight:
    """What training as the recipe says will meet, on this machine.

    Raises:
        DataError: as `check_training_data`.
    """
    return check_training_data(
        train,
        units=units,
        features=recipe.features,
        encoder=recipe.encoder,
        speed=recipe.augment.speed if recipe.features.kind == "log_mel" else 0.0,
        batch_seconds=recipe.data.batch_seconds,
        bfloat16=choose_precision(recipe.training) == "bf16-mixed",
        views=recipe.training.views,
    )


def _first_model(recipe: Recipe, units: Units, phones: Phones | None, inputs: Iterable[Tensor]) -> Recogniser:
    """The model that training begins with, its front end fitted to some inputs."""
    model = Recogniser(
        recipe.features,
        recipe.encoder,
        units=len(units),
        phones=len(phones) if phones else 0,
        augment=recipe.augment,
    )
    model.front_end.fit(inputs)
    if recipe.training.init:
        initialise(
            model,
            units,
            phones=phones.symbols if phones else (),
            features=recipe.features,
            encoder=recipe.encoder,
            bundle=recipe.training.init,
        )
    return model


def _make_splicer(recipe: Recipe, utterances: Sequence[Utterance], load: Loader) -> Splicer | None:
    """What puts training utterances together anew, by the words that the model hears which training begins from."""
    if recipe.training.init:
        words = find_words(utterances, model=recipe.training.init, device=torch_device(recipe.training))
    elif recipe.augment.splice_again:
        words = [()] * len(utterances)
    else:
        log.warning(
            "augment.splice: without a model to begin from (bootstrap.hours, training.init) and without "
            "augment.splice_again nothing says where words are; each utterance is heard as it was said"
        )
        return None
    return Splicer(utterances, words, load=load, rate=recipe.features.rate, share=recipe.augment.splice)


def make_callbacks(recipe: Recipe, task: CTCTraining, keeper: Checkpointer) -> list[Callback]:
    """What stands beside training, `keeper` first."""
    callbacks = [keeper, GradientWatch(recipe.features.frame_seconds)]
    if parallel.rank() == 0:
        callbacks.append(ProgressReport(task.total_updates))
    return callbacks


def make_trainer(
    recipe: Recipe, *callbacks: Callback, logger: TensorBoardLogger | bool = False, **options: Any
) -> lightning.Trainer:
    """Lightning's trainer as the recipe and this machine want it; `options` are further ones of Lightning's."""
    settings: dict[str, Any] = {
        "max_epochs": recipe.training.epochs,
        "accelerator": {"cpu": "cpu", "cuda": "gpu"}[torch_device(recipe.training)],
        "precision": choose_precision(recipe.training),
        # Features add up in an order that torch does not vouch for: it warns of them, where True would refuse them.
        "deterministic": "warn" if recipe.training.deterministic else None,
        "use_distributed_sampler": False,  # the plan of batches is our own
        "num_sanity_val_steps": 0,
        "callbacks": list(callbacks),
        "logger": logger,
        "log_every_n_steps": 10,  # an epoch of the smallest corpora has no more
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    settings |= parallel.trainer_options(devices=recipe.training.devices, nodes=recipe.training.num_nodes)
    return lightning.Trainer(**settings | options)


def _spread(utterances: Sequence[Utterance]) -> Sequence[Utterance]:
    step = max(1, len(utterances) // NORMALISATION_UTTERANCES)
    return utterances[::step]


def _quieten_lightning() -> None:
    """Lightning's hints speak of other set-ups than ours; its errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
