"""What to train, from the speech and the minutes at hand: the settings that a recipe with `minutes` leaves open.

Each rule is one function, and its docstring names the measurement behind it: a row of a recipe's RESULTS.md, or a
published figure where nothing was measured here. A choice is a function of the speech, the minutes, the cores and
their kind, not of how busy a machine is, so that the same command chooses the same. How many updates fit into the
minutes is not guessed here: training plans that itself, from the speed that it measures
(`asr_lstm.schedule.updates_in_time`).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from asr_lstm.choices import Choice
from asr_lstm.config import Recipe
from asr_lstm.default_beginnings import SYNTHETIC_SHARE, Said, choose_phones, choose_synthetic
from asr_lstm.default_rules import (
    LONG_HEARD,
    choose_augment,
    choose_average,
    choose_batch_seconds,
    choose_convolution,
    choose_dropout,
    choose_epochs,
    choose_features,
    choose_learning_rate,
    choose_size,
    choose_units,
    why_batches,
)
from asr_lstm.errors import ConfigError
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.speech import Speech, measure_speech

# Read with these options, a recipe tells what it says itself of what other choices depend on (`_said`).
LEFT_OPEN = ("--training.device=auto", "--bootstrap.hours=.inf", "--bootstrap.lang=")
# Hours of speech that a core learns from in a minute of the time that is given, a share of it being spent on synthetic
# speech: speechocean762 in an hour 1.2 to 1.6 on two cores that multiply in bfloat16 (1.4 on one, run 35; 0.7 on two
# slow ones), 0.5 on two without AVX-512 (run 28; 0.8 on one, run 33). It only tells seldom from often.
_HOURS_A_MINUTE, _HOURS_A_SLOW_MINUTE = 1.3, 0.6
_NOTHING_SAID = Said()
_NEED_TWO_LAYERS = ("phones.share", "phones.lang", "encoder.self_conditioning", "encoder.time_reduction")


def choose_settings(manifest: Path, recipe: Recipe) -> tuple[list[Choice], str]:
    """What `choose_recipe` chooses for a recipe's training data and minutes on this machine, and what it goes by.

    Args:
        manifest: of the training data.
        recipe: as it is where `LEFT_OPEN` is chosen and it says nothing else: its minutes, text and device, and what
            it says of beginnings.

    Raises:
        ConfigError: it wants synthetic speech, and nothing says in which language.
        DataError: as `measure_speech`.
    """
    speech = measure_speech(manifest, recipe.text)
    said = _said(recipe)
    if said.synthetic_hours and not (said.synthetic_lang or speech.lang):
        raise ConfigError(
            "bootstrap.hours: in which language to speak is not said; give bootstrap.lang, such as cs, or hours 0"
        )
    gpu = torch_device(recipe.training) == "cuda"
    cores = torch.get_num_threads()
    choices = choose_recipe(
        speech,
        minutes=recipe.minutes,
        cores=cores,
        gpu=gpu,
        fast=choose_precision(recipe.training) == "bf16-mixed",
        mute=_why_mute(said.synthetic_lang or speech.lang),
        said=said,
    )
    if recipe.encoder.layers == 1:  # as was asked for: then there is no middle layer to learn phones
        choices = [choice for choice in choices if choice.setting not in _NEED_TWO_LAYERS]
    speakers = f"{speech.speakers} speaker{'s' * (speech.speakers != 1)}"
    where = "a GPU" if gpu else f"{cores} core{'s' * (cores != 1)}"
    return choices, (
        f"chosen for {speech.hours:.2f} h of {speakers if speech.speakers else 'unknown voices'}, "
        f"{speech.utterances} utterances, {speech.vocabulary} different words, and {recipe.minutes:g} minutes on "
        f"{where}:"
    )


def _times(passes: float) -> str:
    return "once" if passes < 1.5 else f"{passes:.0f} times"


def _said(recipe: Recipe) -> Said:
    hours = recipe.bootstrap.hours
    return Said(
        synthetic_hours=None if math.isinf(hours) else hours,
        synthetic_lang=recipe.bootstrap.lang,
        apart=recipe.bootstrap.how == "begin",
        init=bool(recipe.training.init),
        lexicon=bool(recipe.phones.lexicon),
    )


def _why_mute(lang: str) -> str:
    """Why espeak-ng cannot speak a language, "" if it can or if it is not said which one."""
    from asr_lstm.corpora.accents import find_accents

    try:
        if lang:
            find_accents(lang)
    except ConfigError as error:
        return str(error)
    return ""


def choose_recipe(
    speech: Speech,
    *,
    minutes: float = 60.0,
    cores: int = 2,
    gpu: bool = False,
    fast: bool = True,
    mute: str = "",
    said: Said = _NOTHING_SAID,
) -> list[Choice]:
    """Settings that suit the speech and the time.

    Args:
        speech: what there is to learn from.
        minutes: of training, the synthetic speech to begin with included.
        cores: of the processor that may be used.
        gpu: whether there is a GPU to train on. It is taken to be fast enough for every epoch.
        fast: whether the processor multiplies in bfloat16.
        mute: why no synthetic speech can be made; "" where it can.
        said: what the recipe says itself.

    Returns:
        Settings that differ from a recipe's own defaults or are worth a word, in the order of a recipe.yaml.

    Raises:
        ValueError: no hours, minutes or cores.
    """
    for name, value in (("hours", speech.hours), ("minutes", minutes), ("cores", cores)):
        if not value > 0:
            raise ValueError(f"{name} must be above 0, not {value}")
    batch_seconds = choose_batch_seconds(speech, gpu=gpu)
    heard = (_HOURS_A_MINUTE if fast else _HOURS_A_SLOW_MINUTE) * cores * minutes
    epochs = choose_epochs(speech, batch_seconds=batch_seconds, long=not gpu and heard >= LONG_HEARD)
    passes = epochs if gpu else min(float(epochs), heard / speech.hours)
    layers, hidden = choose_size(speech, passes=passes, gpu=gpu)
    updates = passes * 3600 * speech.hours / batch_seconds
    bootstrap = choose_synthetic(speech, passes=passes, minutes=minutes, cores=cores, mute=mute, said=said)
    spoken = bootstrap[0].value if said.synthetic_hours is None else said.synthetic_hours
    time = minutes * (1 - SYNTHETIC_SHARE if spoken and said.apart else 1.0)
    return [
        choose_units(speech),
        *choose_features(speech, passes=passes),
        *choose_augment(speech, passes=passes),
        Choice("encoder.layers", layers, f"for {speech.hours:.2g} h, each heard about {_times(passes)}"),
        Choice("encoder.hidden", hidden, "of each direction"),
        *choose_convolution(speech, begun=bool(spoken and said.apart)),
        *choose_dropout(speech, passes=passes),
        Choice("data.batch_seconds", batch_seconds, why_batches(batch_seconds)),
        Choice("training.epochs", epochs, "at most; the schedule is planned to end on time"),
        Choice("training.patience", epochs, "the schedule runs to its end, and the best epoch is kept"),
        Choice(
            "training.learning_rate",
            choose_learning_rate(hidden, batch_seconds, hours=speech.hours),
            f"for {hidden} units",
        ),
        *choose_average(updates),
        Choice("training.max_minutes", round(time, 2), f"of {minutes:g}"),
        Choice("training.device", "auto", "a GPU where there is one"),
        *bootstrap,
        *choose_phones(speech, mute=mute, lexicon=said.lexicon),
    ]
