"""Text for neural language models: read as one string, lines ended by newlines, and parted into splits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.text import read_lines, read_sentences
from asr_lstm.units import Normaliser

Sentences = Literal["lines", "prose", "raw"]
Paths = Path | list[Path]


class Splits(NamedTuple):
    """The texts to learn from, to choose by, and to be measured on; the last may be empty."""

    train: str
    dev: str
    test: str


def read_text(paths: Paths, *, normaliser: Normaliser | None, sentences: Sentences = "lines") -> str:
    """A text file or several as one string in which each line ends with a newline.

    Args:
        paths: text files, plain or gz, or manifests (.jsonl, .json).
        normaliser: for each line; those without text are left out. None takes everything as it stands.
        sentences: "lines" takes each line for a sentence; "prose" finds them in text with lines broken anywhere.

    Raises:
        DataError: a file that cannot be read, or a text that is empty.
    """
    if normaliser is None:
        lines = [line.rstrip("\r\n") for line in read_lines(paths)]
    else:
        found = read_sentences(paths, prose=sentences == "prose")
        lines = [text for line in found if (text := normaliser(line))]
    text = "".join(f"{line}\n" for line in lines)
    if not text.strip():
        named = ", ".join(map(str, [paths] if isinstance(paths, Path) else paths))
        raise DataError(f"{named}: there is no text; give a file that has some")
    return text


def read_splits(
    paths: Paths,
    *,
    dev: float | Path = 0.1,
    test: float | Path = 0.0,
    normaliser: Normaliser | None,
    sentences: Sentences = "lines",
) -> Splits:
    """Read texts and part them.

    Args:
        paths: the texts.
        dev: a text to choose the best model by, or the share of each text that is.
        test: a text to measure on, or the share at the end of each text that is; dev stands before it.
        normaliser: as in `read_text`.
        sentences: as in `read_text`. Texts taken as they stand are cut at a character, as nanoGPT cuts them,
            others at the end of a line.

    Raises:
        ConfigError: shares that leave nothing to learn from.
        DataError: as `read_text`, or a share that comes to nothing.
    """
    shares = [0.0 if isinstance(part, Path) else part for part in (dev, test)]
    if min(shares) < 0 or sum(shares) >= 1:
        raise ConfigError(f"dev and test: {shares[0]:g} and {shares[1]:g} must leave something to learn from")
    files = [paths] if isinstance(paths, Path) else paths
    parts = [
        _cut(read_text(file, normaliser=normaliser, sentences=sentences), shares, anywhere=normaliser is None)
        for file in files
    ]
    found = ["".join(part[index] for part in parts) for index in range(3)]
    for index, other in ((1, dev), (2, test)):
        if isinstance(other, Path):
            found[index] = read_text(other, normaliser=normaliser, sentences=sentences)
    if not (found[0].strip() and found[1].strip()):
        raise DataError(
            f"{files[0]}: too little text to learn from and to choose by; give more, or name a dev text"
        )
    return Splits(*found)


def _cut(text: str, shares: list[float], *, anywhere: bool) -> tuple[str, str, str]:
    places = [int(len(text) * (1 - sum(shares))), int(len(text) * (1 - shares[1]))]
    if not anywhere:
        places = [text.find("\n", place - 1) + 1 if 0 < place < len(text) else place for place in places]
    return text[: places[0]], text[places[0] : places[1]], text[places[1] :]
