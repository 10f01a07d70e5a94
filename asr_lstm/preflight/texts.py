"""What the transcripts are written with: characters that are rare, lacking, invisible, mixed up or not speech."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from asr_lstm.preflight.corpus import Split
from asr_lstm.preflight.findings import Finding, Place, Row, Severity, count, place
from asr_lstm.preflight.training import RARE
from asr_lstm.units import SPACE_SYMBOL

_SHOWN = 10  # characters named in a title; the page's table has them all
# Scripts whose letters look alike: within one word they are never mixed on purpose.
_LOOK_ALIKE = ("LATIN", "CYRILLIC", "GREEK")
# Invisible, yet spelling: joiners in Persian and in the scripts of India, the space of no width in Khmer and Thai.
_SPELLING = "\u200b\u200c\u200d"
_MARKUP = re.compile(r"\[[^\]]*\]|<[^>]*>|\{[^}]*\}")
_MISREAD_AS = ("cp1252", "latin-1")  # what UTF-8 is taken for most often


def character_counts(rows: Sequence[Row]) -> Counter[str]:
    """How often each character stands in the normalised transcripts."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.text)
    return counts


def show_character(character: str) -> str:
    """A character with its code and name, so that look-alikes and marks can be told apart."""
    if character == " ":
        return SPACE_SYMBOL
    shown = f"\u25cc{character}" if unicodedata.combining(character) else character
    if not character.isprintable():
        shown = ""
    name = unicodedata.name(character, "unnamed").lower()
    return f"{shown} U+{ord(character):04X} {name}".strip()


def check_characters(splits: Sequence[Split]) -> list[Finding]:
    """Characters that training hardly sees, and those that other splits have and training lacks."""
    learned: Counter[str] = Counter()
    for split in splits:
        if split.training:
            learned += character_counts(split.rows)
    findings = []
    rare = sorted((number, character) for character, number in learned.items() if number < RARE)
    if rare:
        characters = {character for _, character in rare}
        rows = [row for split in splits if split.training for row in split.rows]
        findings.append(
            Finding(
                "warning",
                f"{count(len(rare), 'character')} in training fewer than {RARE} times: "
                + _few([f"{show_character(character)} ({number})" for number, character in rare]),
                "Each is an output of the network that it can hardly learn.",
                "Correct them if they are slips; else map them to other characters, or add data that has them.",
                _places_of(characters, rows),
            )
        )
    for split in splits:
        lacking = set(character_counts(split.rows)) - set(learned)
        if not split.training and lacking:
            findings.append(
                Finding(
                    "warning",
                    f"{split.name} has {count(len(lacking), 'character')} that training lacks: "
                    + _few([show_character(character) for character in sorted(lacking)]),
                    "The model cannot write them: each counts as an error, whatever it learns.",
                    "Correct them if they are slips; else add training data that has them, or spell them otherwise.",
                    _places_of(lacking, split.rows),
                )
            )
    return findings


def _places_of(characters: set[str], rows: Sequence[Row]) -> list[Place]:
    places = []
    for row in rows:
        if not characters.isdisjoint(row.text):
            there = sorted(characters.intersection(row.text))
            places.append(place(row, _few([show_character(character) for character in there])))
    return places


def check_spelling(rows: Sequence[Row]) -> list[Finding]:
    """Digits, markup, invisible characters, words of two scripts, text that was decoded wrongly."""
    findings = []
    for find, severity, what, meaning, remedy in _CHECKS:
        if places := [place(row, detail) for row in rows if (detail := find(row))]:
            title = f"{count(len(places), 'transcript')} with {what}"
            findings.append(Finding(severity, title, meaning, remedy, places))
    return findings


def _digits(row: Row) -> str:
    if row.text.replace(" ", "").isalpha():
        return ""
    return " ".join(dict.fromkeys(word for word in row.text.split() if any(map(_is_digit, word))))


def _is_digit(character: str) -> bool:
    return unicodedata.category(character).startswith("N")


def _markup(row: Row) -> str:
    return " ".join(dict.fromkeys(_MARKUP.findall(row.utterance.text)))


def _invisible(row: Row) -> str:
    return _few(_invisible_in(row.text))


def _removed(row: Row) -> str:
    return _few(
        [found for found in _invisible_in(row.utterance.text) if found not in _invisible_in(row.text)]
    )


def _invisible_in(text: str) -> list[str]:
    if text.isprintable():  # nearly every transcript, and told fast
        return []
    found = []
    for word in text.split():
        for character in word:
            spelling = character in _SPELLING and not _scripts(word) & set(_LOOK_ALIKE)
            if not character.isprintable() and not spelling:
                found.append(show_character(character))
    return list(dict.fromkeys(found))


def _mixed_scripts(row: Row) -> str:
    if row.text.isascii():
        return ""
    found = []
    for word in row.text.split():
        if not word.isascii() and len(mixed := _scripts(word) & set(_LOOK_ALIKE)) > 1:
            found.append(f"{word!r} ({', '.join(sorted(mixed)).lower()})")
    return _few(found)


def _scripts(word: str) -> set[str]:
    """The first words of its letters' names: LATIN, CYRILLIC, DEVANAGARI, ..."""
    return {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}


def _damaged(row: Row) -> str:
    if row.utterance.text.isascii():
        return ""
    words = [repr(word) for word in row.utterance.text.split() if "\ufffd" in word or _is_misread(word)]
    return _few(words)


def _is_misread(word: str) -> bool:
    """Whether a word is UTF-8 that was read as a Western encoding: written back, it is valid UTF-8 again."""
    if word.isascii():
        return False
    for encoding in _MISREAD_AS:
        try:
            word.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


_CHECKS: tuple[tuple[Callable[[Row], str], Severity, str, str, str], ...] = (
    (
        _digits,
        "warning",
        "digits",
        "A digit is said in many ways (12: twelve, one two, a dozen) and the model has to guess which.",
        "Spell numbers as they were said.",
    ),
    (
        _markup,
        "warning",
        "markup",
        "Brackets are taken away and what they hold is learned as if it had been said.",
        "Take [noise], <unk> and their like out of the transcripts, or out of the manifest with their rows.",
    ),
    (
        _invisible,
        "warning",
        "invisible characters",
        "Nobody sees or hears them, and each becomes an output of the network.",
        "Remove them from the transcripts.",
    ),
    (
        _removed,
        "note",
        "invisible characters that normalisation removes",
        "Marks of direction, byte order marks, soft hyphens and the like: they do no harm here.",
        "Nothing, unless other programs read the transcripts too.",
    ),
    (
        _mixed_scripts,
        "warning",
        "words of two scripts",
        "A look-alike of another script, such as Cyrillic \u0430 for Latin a, is another output of the network.",
        "Type the words again in one script.",
    ),
    (
        _damaged,
        "warning",
        "text in a wrong encoding",
        "The characters are those of a file read as another encoding than it was written in.",
        "Read the source of the transcripts as UTF-8 and write the manifest again.",
    ),
)


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
