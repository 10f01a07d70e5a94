"""What to train, from the speech and the minutes at hand: the settings that a recipe with `minutes` leaves open.

Each rule is one function, and its docstring names the measurement behind it: a row of a recipe's RESULTS.md, or a
published figure where nothing was measured here. A choice is a function of the speech, the minutes, the cores and
their kind, not of how busy a machine is, so that the same command chooses the same. How many updates fit into the
minutes is not guessed here: training plans that itself, from the speed that it measures
(`asr_lstm.schedule.updates_in_time`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_lstm.choices import Choice
from asr_lstm.config import Recipe
from asr_lstm.errors import ConfigError
from asr_lstm.schedule import choose_precision, torch_device
from asr_lstm.speech import Speech, measure_speech

# Read with these options, a recipe tells what it says itself of what other choices depend on (`_said`).
LEFT_OPEN = ("--training.device=auto", "--bootstrap.hours=.inf", "--bootstrap.lang=")
# Hours of speech that a core learns from in a minute of the time that is given, a share of it being spent on synthetic
# speech: speechocean762 in an hour 1.2 to 1.6 on two cores that multiply in bfloat16 (1.4 on one, run 35; 0.7 on two
# slow ones), 0.5 on two without AVX-512 (run 28; 0.8 on one, run 33). It only tells seldom from often.
_HOURS_A_MINUTE, _HOURS_A_SLOW_MINUTE = 1.3, 0.6
# Recordings heard less often than this cannot be learned by heart; up to the second number hardly.
_FEW_PASSES, _SOME_PASSES, _MANY_PASSES = 4, 12, 30
_TELEPHONE_RATE, _RATE = 8000, 16_000
_LONGEST_STACK = 4  # frames of 10 ms
_LITTLE_HOURS, _SOME_HOURS = 1.0, 2.0
# Hours heard in all, each recording as often as there is time for, from which on a wider model is worth its time.
_LONG_HEARD = 200.0
# From here on it is speech that decides, no longer updates, and the first epoch is enough to align.
_MANY_HOURS = 10.0
_VERY_MANY_HOURS = 50.0
# So much synthetic speech an available core-minute; to make it and to learn from it takes a fast core 0.9 minutes an
# hour, a sixth of the time, and 1.2 with 448 units (speechocean762).
_SYNTHETIC_HOURS, _MOST_SYNTHETIC_HOURS = 0.2, 48.0
_FEW_SYNTHETIC_HOURS = 6.0
_SYNTHETIC_SHARE = 0.18  # at most, of the time
_WARP, _WARP_OF_WORDS = 0.1, 0.15
_NEED_TWO_LAYERS = ("phones.share", "phones.lang", "encoder.self_conditioning", "encoder.time_reduction")


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
    said: Said = Said(),
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
    batch_seconds = _batch_seconds(speech, gpu=gpu)
    heard = (_HOURS_A_MINUTE if fast else _HOURS_A_SLOW_MINUTE) * cores * minutes
    epochs = _epochs(speech, batch_seconds=batch_seconds, long=not gpu and heard >= _LONG_HEARD)
    passes = epochs if gpu else min(float(epochs), heard / speech.hours)
    layers, hidden = _size(speech, passes=passes, gpu=gpu)
    updates = passes * 3600 * speech.hours / batch_seconds
    bootstrap = _bootstrap(speech, passes=passes, minutes=minutes, cores=cores, mute=mute, said=said)
    spoken = bootstrap[0].value if said.synthetic_hours is None else said.synthetic_hours
    time = minutes * (1 - _SYNTHETIC_SHARE if spoken and said.apart else 1.0)
    return [
        _units(speech),
        *_features(speech, passes=passes),
        *_augment(speech, passes=passes),
        Choice("encoder.layers", layers, f"for {speech.hours:.2g} h, each heard about {_times(passes)}"),
        Choice("encoder.hidden", hidden, "of each direction"),
        *_convolution(speech, begun=bool(spoken and said.apart)),
        *_dropout(speech, passes=passes),
        Choice("data.batch_seconds", batch_seconds, _why_batches(batch_seconds)),
        Choice("training.epochs", epochs, "at most; the schedule is planned to end on time"),
        Choice("training.patience", epochs, "the schedule runs to its end, and the best epoch is kept"),
        Choice(
            "training.learning_rate",
            _learning_rate(hidden, batch_seconds, hours=speech.hours),
            f"for {hidden} units",
        ),
        *_average(updates),
        Choice("training.max_minutes", round(time, 2), f"of {minutes:g}"),
        Choice("training.device", "auto", "a GPU where there is one"),
        *bootstrap,
        *_phones(speech, mute=mute, lexicon=said.lexicon),
    ]


def _units(speech: Speech) -> Choice:
    """Words for a closed vocabulary, characters for open text.

    digits, first and third trial: characters 31.8 and 22.8 % WER on two speakers not heard, words 24.0 and 15.0 %;
    half of the errors were words that do not exist. The stand-in has 1276 words, and characters reach 4 % there.
    """
    if speech.closed:
        return Choice("units.kind", "words", f"{speech.vocabulary} different words, heard often")
    return Choice("units.kind", "characters", f"{speech.vocabulary} different words: they must be spelt")


def _features(speech: Speech, *, passes: float) -> list[Choice]:
    """Rate and bands as recorded; frames as long as the fastest speech allows; single words are centred by level.

    Bands: digits and yesno have 40 at 8 kHz, all others 80 at 16 kHz. Frames: with words, 30 ms (digits). With
    characters two frames for each (the stand-in: 25 frames a second for 12 characters), since longer ones are quicker
    (librispeech, runs 1 to 3), and for the fastest utterances, sped up, one at least, which CTC cannot do without. The
    first layer has frames of 20 ms at most where recordings are heard more than a few times (speechocean762, run 19).
    Level: digits, third and fifth trial, together with equaliser, trim and pause.
    """
    narrow = speech.rate <= _TELEPHONE_RATE
    chosen = [
        Choice("features.rate", _TELEPHONE_RATE if narrow else _RATE, f"recorded at {speech.rate} Hz"),
        Choice("features.mels", 40 if narrow else 80, "bands for that rate"),
    ]
    if speech.closed:
        chosen.append(Choice("features.stack", 3, "30 ms a frame, for words"))
    else:
        stack = _stack(speech)
        reason = f"{10 * stack} ms a frame, for {speech.pace:.1f} characters a second"
        chosen.append(Choice("features.stack", stack, reason))
        if stack == _LONGEST_STACK and passes >= _FEW_PASSES:
            chosen[-1] = Choice("features.stack", stack // 2, f"{5 * stack} ms a frame in the first layer")
            chosen.append(
                Choice("encoder.time_reduction", (2,), f"after it {reason}", needs="features.stack")
            )
    if speech.closed and speech.single_words:
        chosen.append(
            Choice("features.centre", "level", "a single word is known by the slope of its spectrum")
        )
    return chosen


def _stack(speech: Speech) -> int:
    needed = max(2 * speech.pace, (1 + _WARP) * speech.fastest)
    return next((stack for stack in (_LONGEST_STACK, 3, 2) if 100 / stack >= needed), 1)


def _augment(speech: Speech, *, passes: float) -> list[Choice]:
    """The more, the more often each recording is heard.

    Heard three times: other throats alone (librispeech, runs 12 and 13). Five times: fewer masks (speechocean762, runs
    3 and 4 against 2). More often: two bands, one stretch, speed and filters by 0.1 (speechocean762, run 5); where it
    would be learned by heart two stretches, and filters by 0.15 (its hour). Words: by 0.15 (digits), and no stretch is
    hidden among several words, for none can be guessed from the others (yesno). Filters are warped as if by other
    throats, where there is more than one (yesno has one, and none is warped).
    """
    if passes < _FEW_PASSES:
        names = ("speed", "frequency_masks", "time_masks")
        few = "each recording is heard a few times only"
        return [_throats(speech, _WARP), *(Choice(f"augment.{name}", 0, few) for name in names)]
    warp = _WARP_OF_WORDS if speech.closed else _WARP
    by_heart = _by_heart(speech, passes=passes)
    throats = _WARP_OF_WORDS if speech.closed or by_heart else _WARP
    masks = 2 if passes >= _SOME_PASSES else 1
    stretches = (2 if speech.single_words else 0) if speech.closed else 1 + by_heart
    hidden = "stretches hidden" if stretches else "a hidden word cannot be guessed from the others"
    chosen = [
        Choice("augment.speed", warp, "heard otherwise each time"),
        _throats(speech, throats),
        Choice("augment.frequency_masks", masks, "bands hidden"),
        Choice("augment.time_masks", stretches, hidden),
    ]
    if not speech.closed:
        longest = "the longest of them"
        chosen.append(Choice("augment.time_width_seconds", 0.2, longest, needs="augment.time_masks"))
    if speech.closed and speech.single_words:
        edges = "single words are cut out in many ways"
        chosen += [
            Choice("augment.trim", 0.15, edges),
            Choice("augment.pause", 0.15, edges),
            Choice("augment.equaliser_db", 2.0, "few microphones to learn from"),
        ]
    return chosen


def _throats(speech: Speech, warp: float) -> Choice:
    """How far filters are warped, where there are voices to stand for others."""
    if speech.speakers == 1:
        return Choice("augment.vocal_tract", 0.0, "one voice")
    return Choice("augment.vocal_tract", warp, "as if by longer and shorter throats")


def _size(speech: Speech, *, passes: float, gpu: bool) -> tuple[int, int]:
    """Layers and units of each direction.

    2 x 96 for closed vocabularies (digits; yesno does with 1 x 96), 3 x 256 for open text from 0.4 to 2.5 h
    (speechocean762, run 5; folder), 3 x 320 where it would be learned by heart (speechocean762, its hour), and 3 x 448
    if there is time for 80 epochs of 2.5 h (best.yaml, with twice the synthetic speech: CER 2 points below the hour),
    2 x 256 where each recording is heard a few times only (librispeech, runs 2, 3 and 11). From 50 h up, on a GPU, 4 x
    640, which EESEN took for 100 h of LibriSpeech, with dropout; it was not run here.
    """
    if speech.closed and speech.hours < _LITTLE_HOURS:
        return 2, 96
    if passes < _FEW_PASSES:
        return 2, 256
    if gpu and speech.hours >= _VERY_MANY_HOURS:
        return 4, 640
    if not _by_heart(speech, passes=passes):
        return 3, 256
    return 3, 448 if passes * speech.hours >= _LONG_HEARD else 320


def _convolution(speech: Speech, *, begun: bool) -> list[Choice]:
    """Before the layers, for open text; residual blocks in it from 1 to 10 h, where training has `begun` otherwise.

    speechocean762, runs 16 and 7: the CER of 16 epochs after 8. librispeech, runs 12 and 11: on dev 4.5 % WER
    instead of 6.2 after three epochs. Not compared on corpora of one voice. Blocks: two points of CER at equal time
    after 12 h of synthetic speech (speechocean762, runs 79 to 82); less speech, or none to begin with, was not tried
    since their gradients are right, and before that CTC did not begin with them.
    """
    if speech.closed:
        return []
    wherever = "channels: a sound is known wherever it lies in time and in the bands"
    chosen = [Choice("encoder.convolution", 16, wherever)]
    if begun and _rich(speech) and speech.hours < _MANY_HOURS:
        deeper = "pairs of layers more in it, which synthetic speech teaches first"
        chosen.append(Choice("encoder.convolution_blocks", 4, deeper, needs="encoder.convolution"))
    return chosen


def _dropout(speech: Speech, *, passes: float) -> list[Choice]:
    """Between layers and of the recurrent state, the less the more speech there is, and the less often it is heard.

    From an hour of open text up it rises from none (speechocean762, runs 35 to 37), by 50 epochs to 0.4 between layers
    and 0.3 of the state (its hour): with 0.2 at the end the recordings were learned by heart (the hour before), and
    where there is time for 30 epochs only, 0.4 by their 18th held it up (the hour on the slower Zen 4). Not compared
    on less than an hour, nor on ten or more, where it rises if each is heard a dozen times.

    Elsewhere 0.05 for recordings heard up to a dozen times (librispeech, run 11), and 0.2 for less than an hour
    (digits and yesno; folder, where with 0.1 the loss on dev rose from the 15th epoch on) or if heard thirty times.
    No rates have beaten no dropout beyond chance over 50 epochs (runs 52 and 53).
    """
    if _rich(speech) and (speech.hours < _MANY_HOURS or passes >= _SOME_PASSES):
        often = "what was heard often is learned by heart"
        return [
            Choice("encoder.layer_dropout", 0.4, often),
            Choice("encoder.state_dropout", 0.3, often),
            Choice(
                "training.dropout_epochs", 50, "to rise to that: at first dropout only slows learning down"
            ),
        ]
    if passes < _SOME_PASSES:
        share, why = 0.05, "recordings that are heard so seldom are not learned by heart"
    elif speech.hours < _LITTLE_HOURS or passes >= _MANY_PASSES:
        share, why = 0.2, "so little speech, so often heard, is soon learned by heart"
    else:
        share, why = 0.1, "the fit to the recordings is as short as they are"
    return [Choice(f"encoder.{name}_dropout", share, why) for name in ("layer", "state")]


def _by_heart(speech: Speech, *, passes: float) -> bool:
    """Whether an hour of open text or more is heard so often that, with little dropout, it is learned by heart.

    So it was in the hour of speechocean762, from some 27 epochs on; from ten hours up none was heard so often.
    """
    return _rich(speech) and speech.hours < _MANY_HOURS and passes >= _MANY_PASSES


def _rich(speech: Speech) -> bool:
    """Whether it is an hour of open text or more."""
    return not speech.closed and speech.hours >= _LITTLE_HOURS


def _batch_seconds(speech: Speech, *, gpu: bool) -> float:
    """Small where updates are what is short; see `_why_batches`.

    yesno: 15 s batches 1.67 % WER, 12 s 0.83 %, 10 s none. folder: 20 s. speechocean762, run 17: an epoch of 40 s
    batches teaches as much as one of 20 s, in three quarters of the time. librispeech, the table of single epochs:
    12, 20 and 40 s end alike from 17 h on. 320 s for a GPU: recipes/librispeech/960h.yaml, not run.
    """
    if gpu and speech.hours >= _VERY_MANY_HOURS:
        return 320.0
    if speech.closed and speech.hours < _LITTLE_HOURS:
        return 10.0
    return 20.0 if speech.hours < _SOME_HOURS else 40.0


def _why_batches(batch_seconds: float) -> str:
    return "many updates, of which little speech has few" if batch_seconds <= 20 else "the least time an hour"


def _learning_rate(hidden: int, batch_seconds: float, *, hours: float) -> float:
    """3e-3 for 96 units (digits), and for 256 with much speech, which is soon over (librispeech, single epochs).

    For 256 to 448 and less speech 1e-3 with batches of 20 s, 1.4e-3 with 40 s. speechocean762, run 7 against 6: with
    2e-3 and 20 s an epoch teaches less until the rate falls, and the end is no better; run 17 for 40 s. 1e-3 for 640:
    recipes/librispeech/960h.yaml, not run.
    """
    if hidden >= 640:
        return 1e-3
    if hidden < 256 or hours >= _MANY_HOURS:
        return 3e-3
    return 1e-3 if batch_seconds <= 20 else 1.4e-3


def _epochs(speech: Speech, *, batch_seconds: float, long: bool) -> int:
    """The most passes over the speech, if there is time for them.

    Closed vocabularies: about 2000 updates (yesno; digits gains nothing beyond 20 epochs). Open text: 90 epochs up to
    2.5 h (speechocean762), and beyond a power of the hours that leads to 14 of 960 h, which was not run; 140 up to
    10 h where there is long to learn (best.yaml, which fell to the last of its 106).
    """
    if speech.closed:
        return min(60, max(20, round(2000 * batch_seconds / (3600 * speech.hours))))
    if long and speech.hours < _MANY_HOURS:
        return 140
    return min(90, round(120 / math.pow(speech.hours, 0.313)))


def _average(updates: float) -> list[Choice]:
    """A moving average of the weights over some thousand updates.

    speechocean762, run 5, with 19,000 updates; digits, with 2000, gained nothing.
    """
    return [Choice("training.average", 0.999, f"about {updates:.0f} updates")] if updates >= 10_000 else []


def _bootstrap(
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
    elif speech.hours >= _MANY_HOURS:
        why = "so much speech is aligned in its first epoch"
    elif not hours or passes < _FEW_PASSES:
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
        most_minutes = round(_SYNTHETIC_SHARE * minutes, 2)
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


def _phones(speech: Speech, *, mute: str, lexicon: bool) -> list[Choice]:
    """Phones for the middle layer, where the language or a dictionary is said, up to 10 h of open text.

    speechocean762, runs 6 and 5: after 12 epochs as good as without after 42; run 18 for the layer above that hears
    them. Not compared with more speech, nor in languages that are written as they sound, where there is less to win.
    """
    if speech.closed or speech.hours >= _MANY_HOURS or not (lexicon or (speech.lang and not mute)):
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
