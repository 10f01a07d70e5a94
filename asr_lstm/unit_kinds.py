"""The kinds of output units, by the name that recipes and bundles know them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance
from asr_lstm.manifest_index import summarise
from asr_lstm.piece_units import PieceUnits
from asr_lstm.units import CharacterUnits, Normaliser, Units
from asr_lstm.word_units import WordUnits


@dataclass(frozen=True)
class UnitsConfig:
    """What the network writes.

    Attributes:
        kind: `characters` spells any word; `pieces` does too, with common parts of words learned from the training
            transcripts (pip install 'asr_lstm[sentencepiece]'); `words` chooses among those of the training
            transcripts, for digits, commands and other small closed vocabularies.
        size: how many pieces, the characters among them; small corpora get fewer. Of other kinds without effect.
    """

    kind: Literal["characters", "pieces", "words"] = "characters"
    size: int = 300

    def __post_init__(self) -> None:
        if self.kind not in _LOADERS:
            raise ValueError(f"units.kind must be one of {', '.join(_LOADERS)}, not {self.kind!r}")
        if self.size < 1:
            raise ValueError(f"units.size must be above 0, not {self.size}")


_LOADERS: dict[str, Callable[[str | Path, Normaliser | None], Units]] = {
    "characters": CharacterUnits.load,
    "pieces": PieceUnits.load,
    "words": WordUnits.load,
}


def make_units(config: UnitsConfig, utterances: Sequence[Utterance], normaliser: Normaliser) -> Units:
    """Units that can write all these transcripts.

    Raises:
        ConfigError: too many words to be units, too few pieces for the characters, or no sentencepiece.
        DataError: there is no text.
    """
    if config.kind == "words":
        return WordUnits.from_texts((utterance.text for utterance in utterances), normaliser)
    if config.kind == "pieces":
        return PieceUnits.from_texts(
            (utterance.text for utterance in utterances), normaliser, size=config.size
        )
    return CharacterUnits.from_characters(summarise(utterances, normaliser).counts, normaliser)


def load_units(kind: str, path: str | Path, normaliser: Normaliser) -> Units:
    """Read the units of a bundle.

    Raises:
        ConfigError: no such kind, or a file that holds no units.
    """
    if kind not in _LOADERS:
        raise ConfigError(f"{path}: units of kind {kind!r}; there are {', '.join(_LOADERS)}")
    return _LOADERS[kind](path, normaliser)
