"""How texts are to be found, as a user says it: one set of options for evaluate, transcribe, tune and recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asr_lstm.decoding.beam import BEAM as BEAM_WIDTH
from asr_lstm.errors import ConfigError

GREEDY, BEAM = "greedy", "beam"
NBEST = 10  # what word confidences and the oracle rest on; further texts have little mass
# What the names of decoders are made of, in the order in which parts are added.
LEXICON, NGRAM, LSTM, HOTWORDS, RESCORE, DRAWS = "lexicon", "ngram", "lstm", "hotwords", "rescore", "mc"


@dataclass(frozen=True)
class DecodingConfig:
    """How texts are found in what the network hears.

    Attributes:
        decoder: `greedy` takes each frame's likeliest unit; `beam` searches, with the models given here.
        lm: an n-gram model of words: an ARPA file, plain or gz, or the binary form.
        lstm: an LSTM language model over the recogniser's own units, asked while searching.
        rescore: an LSTM language model of any units, which orders the texts found anew.
        lexicon: the only words that may be written: a file with one a line, or a dictionary such as CMU's, whose lines
            begin with the word.
        hotwords: phrase to weight, as {"New York": 3}; 3 makes it about 20 times as likely.
        beam: texts kept after each frame; more are slower, and seldom better.
        alpha: weight of `lm`; by default what `asr-lstm tune` found for the model, else 0.5.
        beta: added for each word; by default what `tune` found, else 0.
        lstm_weight: weight of `lstm`, or of `rescore`; by default what `tune` found, else 0.5.
        nbest: texts found of each utterance.
        mc: draws of Monte-Carlo dropout, such as 8; 0 for none.
    """

    decoder: Literal["greedy", "beam"] = "greedy"
    lm: Path | None = None
    lstm: Path | None = None
    rescore: Path | None = None
    lexicon: Path | None = None
    hotwords: dict[str, float] = field(default_factory=dict)
    beam: int = BEAM_WIDTH
    alpha: float | None = None
    beta: float | None = None
    lstm_weight: float | None = None
    nbest: int = NBEST
    mc: int = 0

    def __post_init__(self) -> None:
        for name, least in (("beam", 1), ("nbest", 1), ("mc", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("alpha", "beta", "lstm_weight"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value}")
        for phrase, weight in self.hotwords.items():
            if not math.isfinite(weight):
                raise ValueError(f"hotwords: the weight of {phrase!r} must be a finite number, not {weight}")
        if self.decoder == GREEDY and (given := [name for name, value in self._parts().items() if value]):
            raise ValueError(
                f"{given[0]}: greedy decoding has no use for it; say decoder `beam` or leave it out"
            )
        if self.lstm and self.rescore:
            raise ValueError("lstm, rescore: one language model can search or rescore; give one of the two")

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("lm", "lstm", "rescore", "lexicon", "hotwords")}

    @property
    def decoders(self) -> list[str]:
        """The names of what is compared: greedy, the bare beam search, and each part added to those before it.

        Monte-Carlo dropout, where it is asked for, is added to the last.
        """
        names = [GREEDY]
        if self.decoder == BEAM:
            names.append(BEAM)
            given = {
                LEXICON: self.lexicon,
                NGRAM: self.lm,
                LSTM: self.lstm,
                HOTWORDS: self.hotwords,
                RESCORE: self.rescore,
            }
            for part, value in given.items():
                if value:
                    names.append(f"{names[-1]}+{part}")
        if self.mc:
            names.append(f"{names[-1]}+{DRAWS}")
        return names

    @property
    def files(self) -> list[Path]:
        """The files and folders that the texts depend on."""
        given = (self.lm, self.lstm, self.rescore, self.lexicon)
        return [path for path in given if path is not None]


def parts_of(decoder: str) -> set[str]:
    """What a decoder's name is made of: {"beam", "ngram"} of `beam+ngram`."""
    return set(decoder.split("+"))


def without(decoder: str, *parts: str) -> str:
    """A decoder's name less some of its parts."""
    return "+".join(part for part in decoder.split("+") if part not in parts)


def decoding_config(**options: Any) -> DecodingConfig:
    """The options of a command line.

    Raises:
        ConfigError: numbers that make no sense, or models that the decoder has no use for.
    """
    try:
        return DecodingConfig(**options)
    except ValueError as error:
        raise ConfigError(str(error)) from error
