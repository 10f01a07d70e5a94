"""One rule for each setting that depends on the speech alone and on how often it is heard; see `asr_lstm.defaults`."""

from __future__ import annotations

import math

from asr_lstm.choices import Choice
from asr_lstm.speech import Speech

# Recordings heard less often than this cannot be learned by heart; up to the second number hardly.
FEW_PASSES, _SOME_PASSES, _MANY_PASSES = 4, 12, 30
# Hours heard in all, each recording as often as there is time for, from which on a wider model is worth its time.
LONG_HEARD = 200.0
# From here on it is speech that decides, no longer updates, and the first epoch is enough to align.
MANY_HOURS = 10.0
_LITTLE_HOURS, _SOME_HOURS, _VERY_MANY_HOURS = 1.0, 2.0, 50.0
_TELEPHONE_RATE, _RATE = 8000, 16_000
_LONGEST_STACK = 4  # frames of 10 ms
_WARP, _WARP_OF_WORDS = 0.1, 0.15


def choose_units(speech: Speech) -> Choice:
    """Words for a closed vocabulary, characters for open text.

    digits, first and third trial: characters 31.8 and 22.8 % WER on two speakers not heard, words 24.0 and 15.0 %;
    half of the errors were words that do not exist. The stand-in has 1276 words, and characters reach 4 % there.
    """
    if speech.closed:
        return Choice("units.kind", "words", f"{speech.vocabulary} different words, heard often")
    return Choice("units.kind", "characters", f"{speech.vocabulary} different words: they must be spelt")


def choose_features(speech: Speech, *, passes: float) -> list[Choice]:
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
        if stack == _LONGEST_STACK and passes >= FEW_PASSES:
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


def choose_augment(speech: Speech, *, passes: float) -> list[Choice]:
    """The more, the more often each recording is heard.

    Heard three times: other throats alone (librispeech, runs 12 and 13). Five times: fewer masks (speechocean762, runs
    3 and 4 against 2). More often: two bands, one stretch, speed and filters by 0.1 (speechocean762, run 5); where it
    would be learned by heart two stretches, and filters by 0.15 (its hour). Words: by 0.15 (digits), and no stretch is
    hidden among several words, for none can be guessed from the others (yesno). Filters are warped as if by other
    throats, where there is more than one (yesno has one, and none is warped).
    """
    if passes < FEW_PASSES:
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


def choose_size(speech: Speech, *, passes: float, gpu: bool) -> tuple[int, int]:
    """Layers and units of each direction.

    2 x 96 for closed vocabularies (digits; yesno does with 1 x 96), 3 x 256 for open text from 0.4 to 2.5 h
    (speechocean762, run 5; folder), 3 x 320 where it would be learned by heart (speechocean762, its hour), and 3 x 448
    if there is time for 80 epochs of 2.5 h (best.yaml as it was on 2026-12-01, with twice the synthetic speech: CER 2
    points below the hour), 2 x 256 where each recording is heard a few times only (librispeech, runs 2, 3 and 11).
    From 50 h up, on a GPU, 4 x 640, which EESEN took for 100 h of LibriSpeech, with dropout; it was not run here.
    """
    if speech.closed and speech.hours < _LITTLE_HOURS:
        return 2, 96
    if passes < FEW_PASSES:
        return 2, 256
    if gpu and speech.hours >= _VERY_MANY_HOURS:
        return 4, 640
    if not _by_heart(speech, passes=passes):
        return 3, 256
    return 3, 448 if passes * speech.hours >= LONG_HEARD else 320


def choose_convolution(speech: Speech, *, begun: bool) -> list[Choice]:
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
    if begun and _rich(speech) and speech.hours < MANY_HOURS:
        deeper = "pairs of layers more in it, which synthetic speech teaches first"
        chosen.append(Choice("encoder.convolution_blocks", 4, deeper, needs="encoder.convolution"))
    return chosen


def choose_dropout(speech: Speech, *, passes: float) -> list[Choice]:
    """Between layers and of the recurrent state, the less the more speech there is, and the less often it is heard.

    From an hour of open text up it rises from none (speechocean762, runs 35 to 37), by 50 epochs to 0.4 between layers
    and 0.3 of the state (its hour): with 0.2 at the end the recordings were learned by heart (the hour before), and
    where there is time for 30 epochs only, 0.4 by their 18th held it up (the hour on the slower Zen 4). Not compared
    on less than an hour, nor on ten or more, where it rises if each is heard a dozen times.

    Elsewhere 0.05 for recordings heard up to a dozen times (librispeech, run 11), and 0.2 for less than an hour
    (digits and yesno; folder, where with 0.1 the loss on dev rose from the 15th epoch on) or if heard thirty times.
    No rates have beaten no dropout beyond chance over 50 epochs (runs 52 and 53).
    """
    if _rich(speech) and (speech.hours < MANY_HOURS or passes >= _SOME_PASSES):
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
    return _rich(speech) and speech.hours < MANY_HOURS and passes >= _MANY_PASSES


def _rich(speech: Speech) -> bool:
    """Whether it is an hour of open text or more."""
    return not speech.closed and speech.hours >= _LITTLE_HOURS


def choose_batch_seconds(speech: Speech, *, gpu: bool) -> float:
    """Small where updates are what is short; see `why_batches`.

    yesno: 15 s batches 1.67 % WER, 12 s 0.83 %, 10 s none. folder: 20 s. speechocean762, run 17: an epoch of 40 s
    batches teaches as much as one of 20 s, in three quarters of the time. librispeech, the table of single epochs:
    12, 20 and 40 s end alike from 17 h on. 320 s for a GPU: recipes/librispeech/960h.yaml, not run.
    """
    if gpu and speech.hours >= _VERY_MANY_HOURS:
        return 320.0
    if speech.closed and speech.hours < _LITTLE_HOURS:
        return 10.0
    return 20.0 if speech.hours < _SOME_HOURS else 40.0


def why_batches(batch_seconds: float) -> str:
    """Half a line for `choose_batch_seconds`."""
    return "many updates, of which little speech has few" if batch_seconds <= 20 else "the least time an hour"


def choose_learning_rate(hidden: int, batch_seconds: float, *, hours: float) -> float:
    """3e-3 for 96 units (digits), and for 256 with much speech, which is soon over (librispeech, single epochs).

    For 256 to 448 and less speech 1e-3 with batches of 20 s, 1.4e-3 with 40 s. speechocean762, run 7 against 6: with
    2e-3 and 20 s an epoch teaches less until the rate falls, and the end is no better; run 17 for 40 s. 1e-3 for 640:
    recipes/librispeech/960h.yaml, not run.
    """
    if hidden >= 640:
        return 1e-3
    if hidden < 256 or hours >= MANY_HOURS:
        return 3e-3
    return 1e-3 if batch_seconds <= 20 else 1.4e-3


def choose_epochs(speech: Speech, *, batch_seconds: float, long: bool) -> int:
    """The most passes over the speech, if there is time for them.

    Closed vocabularies: about 2000 updates (yesno; digits gains nothing beyond 20 epochs). Open text: 90 epochs up to
    2.5 h (speechocean762), and beyond a power of the hours that leads to 14 of 960 h, which was not run; 140 up to
    10 h where there is long to learn (the same, which fell to the last of its 106).
    """
    if speech.closed:
        return min(60, max(20, round(2000 * batch_seconds / (3600 * speech.hours))))
    if long and speech.hours < MANY_HOURS:
        return 140
    return min(90, round(120 / math.pow(speech.hours, 0.313)))


def choose_average(updates: float) -> list[Choice]:
    """A moving average of the weights over some thousand updates.

    speechocean762, run 5, with 19,000 updates; digits, with 2000, gained nothing.
    """
    return [Choice("training.average", 0.999, f"about {updates:.0f} updates")] if updates >= 10_000 else []
