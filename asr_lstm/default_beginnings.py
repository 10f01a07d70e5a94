"""What training begins from and learns beside: synthetic speech, and phones; see `asr_lstm.defaults`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from asr_lstm.choices import Choice
from asr_lstm.default_rules import FEW_PASSES, MANY_HOURS
from asr_lstm.speech import Speech

# So much synthetic speech an available core-minute; to make it and to learn from it takes a fast core 0.9 minutes an
# hour, a sixth of the time, and 1.2 with 448 units (speechocean762).
_SYNTHETIC_HOURS, _MOST_SYNTHETIC_HOURS = 0.2, 48.0
_FEW_SYNTHETIC_HOURS = 6.0
SYNTHETIC_SHARE = 0.18  # at most, of the time


@dataclass(frozen=True)
class Said:
    """What a recipe says itself, which other choices depend on.

    Attributes:
        synthetic_hours: `bootstrap.hours`; None where it leaves them open.
        synthetic_lang: `bootstrap.lang`; "" where it leaves that open.
        apart: whether synthetic speech would be learned from first, and take its share of the minutes.
        init: whether training begins from a model of the user's.
        lexicon: whether a pronouncing dictionary says how words sound.
    """

    synthetic_hours: float | None = None
    synthetic_lang: str = ""
    apart: bool = True
    init: bool = False
    lexicon: bool = False


def choose_synthetic(
    speech: Speech, *, passes: float, minutes: float, cores: int, mute: str, said: Said
) -> list[Choice]:
    """Synthetic speech to begin with, where the language is said, up to 10 h of open text.

    It is worth about ten epochs on recordings, which from chance go by before anything is aligned (docs/bootstrap.md:
    2.5 h from chance 92.6 % WER after 15 epochs, after synthetic speech 86.9 % after 12), and the more the better: 12,
    25 and 49 h are a point of CER apart each after 20 epochs (runs 47 and 48). From 9 h up the first epoch
    aligns (librispeech, run 7). It did not help on digits. A convolution needs about 300 updates before it learns
    anything: of 2 h, batches of 30 s at 3e-3 were over before (loss 2.67), of 15 s at 2e-3 not (1.86), on 400
    utterances of speechocean762. Such a model knows where words are, and without utterances spliced at them its gain
    is soon learned away; with them it is worth 1 to 2 points of CER on these 400 at equal time, in two of three pairs
    of runs beyond chance (docs/bootstrap.md).
    """
    most = min(_MOST_SYNTHETIC_HOURS, _SYNTHETIC_HOURS * cores * minutes)
    hours = math.floor(2 * most) / 2  # by half hours
    lang = said.synthetic_lang or speech.lang
    why = ""
    if said.init and said.apart:
        why = "training begins from another model"
    elif said.synthetic_hours is not None:
        hours, why = said.synthetic_hours, "" if said.synthetic_hours else "as the recipe says"
    elif not said.apart:
        why = "how much of it to learn from beside the recordings was not measured; say it"
    elif speech.closed:
        why = "no use for single words" if speech.single_words else "no use for a closed vocabulary"
    elif speech.hours >= MANY_HOURS:
        why = "so much speech is aligned in its first epoch"
    elif not hours or passes < FEW_PASSES:
        why = "no time for it"
    elif not lang:
        why = "the language is not said; with it (`lang`), synthetic speech to begin with saves about ten epochs"
    elif mute:
        why = mute
    if why:
        return [Choice("bootstrap.hours", 0, why)]
    chosen = [
        Choice("bootstrap.hours", hours, "of synthetic speech to learn to align on, worth about ten epochs"),
    ]
    if speech.lang and not said.synthetic_lang:
        chosen.append(Choice("bootstrap.lang", speech.lang, "as the recordings say"))
    if said.apart:
        batch_seconds = 15.0 if hours < _FEW_SYNTHETIC_HOURS else 30.0
        most_minutes = round(SYNTHETIC_SHARE * minutes, 2)
        chosen += [
            Choice(
                "bootstrap.batch_seconds",
                batch_seconds,
                "some hundreds of updates before anything is learned",
            ),
            Choice("bootstrap.learning_rate", 2e-3, "with a convolution"),
            Choice("bootstrap.max_minutes", most_minutes, "at most, where the processor is slow"),
        ]
    if not speech.closed and (said.apart or said.init):
        splice = (
            "of the utterances put together anew, at words that the model finds which training begins from"
        )
        chosen.append(Choice("augment.splice", 0.5, splice))
    return chosen


def choose_phones(speech: Speech, *, mute: str, lexicon: bool) -> list[Choice]:
    """Phones for the middle layer, where the language or a dictionary is said, up to 10 h of open text.

    speechocean762, runs 6 and 5: after 12 epochs as good as without after 42; run 18 for the layer above that hears
    them. Not compared with more speech, nor in languages that are written as they sound, where there is less to win.
    """
    if speech.closed or speech.hours >= MANY_HOURS or not (lexicon or (speech.lang and not mute)):
        return []
    lang = [] if lexicon else [Choice("phones.lang", speech.lang, "as the recordings say")]
    return [
        Choice("phones.share", 0.5, "of the loss: how words sound is learned before how they are spelt"),
        *lang,
        Choice(
            "encoder.self_conditioning",
            True,
            "the last layer hears which phones the middle one believes in",
            needs="phones.share",
        ),
    ]
