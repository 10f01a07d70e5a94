"""Sentences out of any text, for speech to be made from: one a line, or prose that is split."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from asr_lstm.corpora.rows import read_text
from asr_lstm.errors import DataError
from asr_lstm.manifest import iter_manifest

# About nine seconds of unhurried speech in an alphabet; longer sentences of prose are cut at a comma if they can be.
MAX_CHARACTERS = 130
# A file is prose where so many of its lines go on after the end of a sentence. Transcripts, one a line, seldom do.
PROSE_SHARE = 0.05

_MARKS = ".!?\u2026\u061f\u06d4\u0964\u0965"  # also those of Arabic, Urdu and Devanagari
_WIDE_MARKS = "\u3002\uff01\uff1f"  # of Chinese and Japanese: no space follows
_CLOSING = "\"'\u2019\u201d\u00bb)\\]"
_END = re.compile(rf"(?<=[{_MARKS}])[{_CLOSING}]*\s+(?=\S)|(?<=[{_WIDE_MARKS}])(?=[^{_WIDE_MARKS}])")
# An initial or a short title with its full stop ends no sentence.
_ABBREVIATION = re.compile(r"(?:^|\W)(?:\w|Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|Mme|Mlle|bzw|vgl|tzv|tj|vs)\.$")
_CLAUSE = re.compile(r"(?<=[,;:\u060c\u2014])\s+|(?<=[\u3001\uff0c\uff1b])")
_READ_OUT = set("&@#%*/\\_<>")  # punctuation to Unicode, words to a reader


def read_sentences(paths: Iterable[str | Path]) -> list[str]:
    """The distinct sentences of some files, in their order.

    A manifest (`.jsonl`) gives its transcripts. In any other file each line is a sentence, unless the lines look
    like prose (see `PROSE_SHARE`): then paragraphs are joined and split into sentences.

    Args:
        paths: text files in UTF-8, or manifests.

    Raises:
        DataError: a file that cannot be read, or no sentence that can be spoken as it is written.
    """
    paths = list(paths)
    sentences: list[str] = []
    for path in paths:
        if Path(path).suffix == ".jsonl":
            sentences += [row.text for row in iter_manifest(path)]
        else:
            text = read_text(Path(path))
            sentences += split_prose(text) if is_prose(text) else text.splitlines()
    kept = speakable(sentences)
    if not kept:
        names = ", ".join(map(str, paths)) or "no file"
        raise DataError(
            f"{names}: no sentence of letters alone (digits cannot be transcribed); give more text"
        )
    return kept


def speakable(sentences: Iterable[str]) -> list[str]:
    """Each sentence once, in one line, without those whose sound their letters do not tell.

    Digits and symbols are read out as words that are not written there, so that such a sentence is left out.
    """
    joined = (" ".join(sentence.split()) for sentence in sentences)
    return list(dict.fromkeys(sentence for sentence in joined if _letters_alone(sentence)))


def is_prose(text: str) -> bool:
    """Whether sentences run on over the ends of lines, or several stand in one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return bool(lines) and sum(bool(_END.search(line)) for line in lines) > PROSE_SHARE * len(lines)


def split_prose(text: str, *, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """The sentences of a text whose paragraphs are parted by empty lines.

    Longer ones are cut after a comma, a colon or the like; what has none stays long.
    """
    sentences = []
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _split_paragraph(" ".join(paragraph.split())):
            sentences += _cut(sentence, max_characters)
    return sentences


def cut_transcript(transcript: str, *, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """A transcript in pieces that a voice says in some seconds: at its commas, and between words where it has none.

    What is written without spaces is cut at its commas alone.
    """
    pieces = _cut(" ".join(transcript.split()), max_characters)
    return [
        line
        for piece in pieces
        for line in textwrap.wrap(piece, max_characters, break_long_words=False, break_on_hyphens=False)
    ]


def _split_paragraph(paragraph: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for match in _END.finditer(paragraph):
        part = paragraph[start : match.end()].strip()
        if not _ABBREVIATION.search(part):
            parts.append(part)
            start = match.end()
    return [*parts, paragraph[start:].strip()]


def _cut(sentence: str, max_characters: int) -> list[str]:
    """The sentence in as few pieces of whole clauses as are not too long."""
    if len(sentence) <= max_characters:
        return [sentence]
    pieces: list[str] = []
    start = end = 0
    for place in [*(match.end() for match in _CLAUSE.finditer(sentence)), len(sentence)]:
        if end > start and place - start > max_characters:
            pieces.append(sentence[start:end].strip())
            start = end
        end = place
    return [*pieces, sentence[start:].strip()]


def _letters_alone(sentence: str) -> bool:
    """Whether there are letters, and nothing else is read out: only marks, spaces and punctuation."""
    kinds = {unicodedata.category(character)[0] for character in sentence}
    return "L" in kinds and kinds <= {"L", "M", "Z", "P", "C"} and not _READ_OUT & set(sentence)


def as_spoken(sentence: str) -> str:
    """What a synthesiser is given: a sentence all in capitals would be spelt out letter by letter."""
    return sentence.lower() if sentence == sentence.upper() else sentence
