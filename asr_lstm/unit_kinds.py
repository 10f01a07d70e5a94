"""The kinds of output units, by the name that recipes and bundles know them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance
from asr_lstm.manifest_index import summarise
from asr_lstm.units import CharacterUnits, Normaliser, Units
from asr_lstm.word_units import WordUnits


@dataclass(frozen=True)
class UnitsConfig:
    """What the network writes.

    Attributes:
        kind: `characters` spells any word; `words` chooses among those of the training transcripts, for digits,
            commands and other small closed vocabularies.
    """

    kind: Literal["characters", "words"] = "characters"

    def __post_init__(self) -> None:
        if self.kind not in _LOADERS:
            raise ValueError(f"units.kind must be one of {', '.join(_LOADERS)}, not {self.kind!r}")


_LOADERS: dict[str, Callable[[str | Path, Normaliser | None], Units]] = {
    "characters": CharacterUnits.load,
    "words": WordUnits.load,
}


def make_units(config: UnitsConfig, utterances: Sequence[Utterance], normaliser: Normaliser) -> Units:
    """Units that can write all these transcripts.

    Raises:
        ConfigError: too many words to be units.
        DataError: there is no text.
    """
    if config.kind == "words":
        return WordUnits.from_texts((utterance.text for utterance in utterances), normaliser)
    return CharacterUnits.from_characters(summarise(utterances, normaliser).counts, normaliser)


def load_units(kind: str, path: str | Path, normaliser: Normaliser) -> Units:
    """Read the units of a bundle.

    Raises:
        ConfigError: no such kind, or a file that holds no units.
    """
    if kind not in _LOADERS:
        raise ConfigError(f"{path}: units of kind {kind!r}; there are {', '.join(_LOADERS)}")
    return _LOADERS[kind](path, normaliser)
