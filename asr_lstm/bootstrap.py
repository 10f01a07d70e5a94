"""Synthetic speech to begin with: a model learns to align on it before it meets the few recordings there are.

CTC on little real speech spends most of its updates on finding out which stretch of sound belongs to which letter
(docs/bootstrap.md has measurements). espeak-ng says the training transcripts, and other texts, in hundreds of voices
in a few minutes. Either what is learned from that begins the training on real speech, and the synthetic speech itself
is no part of it; or both are learned from together, to the end or until the synthetic speech has faded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from asr_lstm.errors import DataError

if TYPE_CHECKING:
    from asr_lstm.config import Recipe
    from asr_lstm.corpora import Prepared

# Rooms, noises and levels far beyond those of one studio: what synthetic voices lack in variety.
_REVERBERATION_TIME = (0.1, 0.5)  # seconds
_DIRECT_TO_REVERBERANT = (3.0, 20.0)  # dB
_SIGNAL_TO_NOISE = (8.0, 40.0)  # dB
_NOISE_COLOUR = (0.0, 2.0)
_LEVEL = (-32.0, -12.0)  # dBFS
_LEAST_SECONDS = 0.1  # to say a transcript; a digit is one, and hasty voices must not lack the short ones

# A child's vocal tract is a third shorter than a man's, and espeak-ng has no children.
VOCAL_TRACT = 0.2
SPEED = 0.15
# With a new voice each minute there is nothing to learn by heart.
DROPOUT = 0.05

# Settings of how it is learned from, not of the speech.
_LEARNING = ("epochs", "learning_rate", "batch_seconds", "max_minutes")


@dataclass(frozen=True)
class BootstrapConfig:
    """Synthetic speech to learn from before the training data, or with it.

    Attributes:
        hours: of it; 0 for none.
        how: `begin` learns from it first, and goes on with the training data alone; `mix` learns from both together,
            to the end; `fade` begins with both, and each epoch hears less of the synthetic speech, drawn anew.
        lang: a language of espeak-ng; `en` stands for all accents of English.
        text: files with further sentences to speak, or prose; the training transcripts are always spoken.
        silence: seconds before and after what is said, least and most. Where synthetic speech comes first, little:
            learning costs by the second, and silence teaches nothing. Where it is mixed in, as recordings are cut.
        words_a_minute: of the slowest and the fastest voice, 80 to 450. The default is quicker than people read
            aloud, for the same reason; at 160 to 320 it is worth less again (docs/bootstrap.md).
        epochs: where it comes first, passes over it; where it fades, the epochs that hear any of it, counted from the
            first: of 4 these hear all, three quarters, a half and a quarter. Where it is mixed, of no effect.
        learning_rate: at the end of the warm-up, where it comes first.
        batch_seconds: length of a batch, where it comes first.
        max_minutes: end learning from it after this time, where it comes first; 0 for as long as it takes. Speaking
            it comes before that.
    """

    hours: float = 0.0
    how: Literal["begin", "mix", "fade"] = "begin"
    lang: str = "en"
    text: list[str] = field(default_factory=list)
    silence: tuple[float, float] = (0.0, 0.1)
    words_a_minute: tuple[int, int] = (120, 240)
    epochs: int = 1
    learning_rate: float = 3e-3
    batch_seconds: float = 30.0
    max_minutes: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hours", "max_minutes"):
            if getattr(self, name) < 0:
                raise ValueError(f"bootstrap.{name} must not be below 0, but is {getattr(self, name)}")
        for name in ("epochs", "learning_rate", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"bootstrap.{name} must be above 0, not {getattr(self, name)}")
        for name, least, most in (("silence", 0, 10), ("words_a_minute", 80, 450)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"bootstrap.{name} must be two numbers in {least} .. {most}, the lower first, not {low}, {high}"
                )

    @property
    def spoken(self) -> dict[str, Any]:
        """The settings that the speech depends on, beside the transcripts."""
        return {name: value for name, value in asdict(self).items() if name not in _LEARNING}

    @property
    def fading_epochs(self) -> int:
        """The epochs in which synthetic speech fades; 0 where none does."""
        return self.epochs if self.hours and self.how == "fade" else 0


def bootstrap_recipe(recipe: Recipe) -> Recipe:
    """The recipe that learns from the synthetic speech: the same model, with little dropout and more variation."""
    config = recipe.bootstrap
    return replace(
        recipe,
        bootstrap=BootstrapConfig(),
        augment=replace(
            recipe.augment,
            splice=0.0,  # each sentence is heard but a few times
            speed=max(recipe.augment.speed, SPEED),
            vocal_tract=max(recipe.augment.vocal_tract, VOCAL_TRACT),
        ),
        encoder=replace(
            recipe.encoder,
            input_dropout=0.0,
            layer_dropout=DROPOUT,
            state_dropout=DROPOUT,
            step_dropout=0.0,
            candidate_dropout=0.0,
            weight_dropout=0.0,
            zoneout_cell=0.0,
            zoneout_state=0.0,
        ),
        data=replace(recipe.data, batch_seconds=config.batch_seconds, shards_at_once=0),
        training=replace(
            recipe.training,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            max_minutes=config.max_minutes,
            dropout_epochs=0,  # there is little of it
            errors=0.0,  # what it knows by then is too little
            consistency=0.0,  # with a new voice each minute a second view is not worth its time
        ),
    )


def bootstrap_notes(config: BootstrapConfig) -> list[str]:
    """What a reader of results must know of it."""
    if not config.hours:
        return []
    how = "began with" if config.how == "begin" else "counts"
    note = f"training {how} {config.hours:g} h of SYNTHETIC speech by espeak-ng ({config.lang})"
    if config.how == "begin" and config.max_minutes:
        note += f", or what {config.max_minutes:g} minutes were enough for"
    if config.how == "fade":
        note += f", of which each epoch heard less, and none after epoch {config.epochs}"
    return [note]


def speak_transcripts(
    config: BootstrapConfig, transcripts: Sequence[str], *, output: Path, seed: int
) -> Prepared:
    """Make the synthetic speech: the manifest `train` below `output`.

    Args:
        config: how much, in which language, and what else is said.
        transcripts: of the training data, long ones to be said in pieces; none of dev's or test's may be among them.
        output: folder.
        seed: of voices, rooms and noise.

    Raises:
        ConfigError: espeak-ng is not installed or has no such language.
        DataError: no sentence that it can speak, or no room for what it says.
    """
    from asr_lstm.corpora.rooms import Acoustics
    from asr_lstm.corpora.sentences import cut_transcript
    from asr_lstm.corpora.spoken_text import prepare_spoken_text

    acoustics = Acoustics(
        reverberation_time=_REVERBERATION_TIME,
        direct_to_reverberant=_DIRECT_TO_REVERBERANT,
        signal_to_noise=_SIGNAL_TO_NOISE,
        noise_colour=_NOISE_COLOUR,
        level=_LEVEL,
        silence=config.silence,
    )
    try:
        return prepare_spoken_text(
            output,
            lang=config.lang,
            text=list(config.text),
            sentences=[piece for transcript in transcripts for piece in cut_transcript(transcript)],
            hours=config.hours,
            min_seconds=_LEAST_SECONDS,
            words_a_minute=config.words_a_minute,
            acoustics=acoustics,
            seed=seed,
        )
    except DataError as error:
        raise DataError(f"{error}; bootstrap.hours 0 does without synthetic speech") from error
