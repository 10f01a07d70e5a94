"""Transcripts as text: one small class a format, each writing one transcript after the other to an open file."""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from asr_lstm.errors import ConfigError

if TYPE_CHECKING:
    from asr_lstm.transcribe import Transcript

_TIME_PLACES = 3  # milliseconds: finer than any frame
_CONFIDENCE_PLACES = 4
_SCORE_PLACES = 4
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Writer(ABC):
    """Writes transcripts to a file that is open for text, each as soon as it comes.

    Args:
        file: where to.
        several: more than one recording was asked for, so that each transcript must say whose it is.
        model: the model's name, for formats that keep it.
    """

    name: ClassVar[str]

    def __init__(self, file: IO[str], *, several: bool, model: str) -> None:
        self.file = file
        self.several = several
        self.model = model

    def write(self, transcript: Transcript) -> None:
        """Write one transcript, and let a reader at the other end of a pipe see it at once."""
        self.file.write(self.format(transcript))
        self.file.flush()

    @abstractmethod
    def format(self, transcript: Transcript) -> str:
        """One transcript with its last line break."""


class TextWriter(Writer):
    """The text of one file bare; of several each line is `PATH<tab>TEXT`."""

    name = "text"

    def format(self, transcript: Transcript) -> str:
        """One line."""
        return (
            f"{on_one_line(show_path(transcript.path))}\t{transcript.text}\n"
            if self.several
            else f"{transcript.text}\n"
        )


class JsonWriter(Writer):
    """JSON Lines: an object a file, `path`, `text`, `duration` (s), `words` and `model`.

    Each word has `word`, `start` and `end` (s) and `confidence` (0 to 1). Of a beam search there is also `nbest`: the
    texts that were found, with their `acoustic`, `language` and `total` scores (natural logarithms). Of one file that
    is one object.
    """

    name = "json"

    def format(self, transcript: Transcript) -> str:
        """One line."""
        words = [
            {
                "word": word.word,
                "start": round(word.start, _TIME_PLACES),
                "end": round(word.end, _TIME_PLACES),
                "confidence": round(word.confidence, _CONFIDENCE_PLACES),
            }
            for word in transcript.words
        ]
        row = {
            "path": show_path(transcript.path),
            "text": transcript.text,
            "duration": round(transcript.duration, _TIME_PLACES),
            "words": words,
            "model": self.model,
        }
        if transcript.nbest:
            row["nbest"] = [
                {
                    "text": one.text,
                    "acoustic": round(one.acoustic, _SCORE_PLACES),
                    "language": round(one.language, _SCORE_PLACES),
                    "total": round(one.total, _SCORE_PLACES),
                }
                for one in transcript.nbest
            ]
        return json.dumps(row, ensure_ascii=False) + "\n"


WRITERS: dict[str, type[Writer]] = {kind.name: kind for kind in (TextWriter, JsonWriter)}


def make_writer(name: str, file: IO[str], *, several: bool, model: str) -> Writer:
    """The writer of a format; arguments as of `Writer`.

    Raises:
        ConfigError: there is no such format.
    """
    if name not in WRITERS:
        raise ConfigError(f"format: {name!r} is not one of {', '.join(WRITERS)}")
    return WRITERS[name](file, several=several, model=model)


def show_path(path: Path) -> str:
    """A path that can be printed: bytes of its name that are not UTF-8 are escaped as in `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def on_one_line(text: str) -> str:
    """Tabs, line breaks and other control characters escaped as in `\\t`, so that it is one field of a line."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)
