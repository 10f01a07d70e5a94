"""The n-gram lines of an ARPA file, parsed by compiled code: words to numbers, contexts to nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr_lstm.lm.jit import compiled
from asr_lstm.lm.ngram import UNKNOWN
from asr_lstm.lm.trie import ROOT, Floats, Ints, child

Bytes = NDArray[np.uint8]

# What `parse_ngrams` stopped at.
FULL, MORE, SECTION_END, BAD_NUMBER, BAD_LINE, NO_WORD, NO_CONTEXT, POSITIVE = range(8)

_NEWLINE, _RETURN, _TAB, _SPACE, _BACKSLASH = 10, 13, 9, 32, 92
_PLUS, _MINUS, _POINT, _ZERO, _NINE = 43, 45, 46, 48, 57
_UPPER_E, _LOWER_E = 69, 101
_MAX_DIGITS = 18  # of a number: what fits into an int64, and far beyond float32
_MAX_EXPONENT = 300
_MAX_VALUE = 1e30  # beyond it a float32 is soon infinite


class Lexicon(NamedTuple):
    """A hash table from a word's bytes to its number.

    Attributes:
        slots: a power of two of them, each the number of a spelling or -1; a collision takes the next free one.
        blob: the bytes of all spellings, one after the other.
        offsets: `(spellings + 1,)`, where each begins.
    """

    slots: Ints
    blob: Bytes
    offsets: NDArray[np.int64]


def make_lexicon(spellings: Sequence[bytes]) -> Lexicon:
    """The table for words in the order of their numbers."""
    offsets = np.zeros(len(spellings) + 1, np.int64)
    np.cumsum([len(spelling) for spelling in spellings], out=offsets[1:])
    blob = np.frombuffer(b"".join(spellings), np.uint8).copy()  # writable, as numba's other arrays
    slots = np.full(1 << (2 * len(spellings)).bit_length(), -1, np.int32)
    lexicon = Lexicon(slots, blob, offsets)
    _fill(lexicon)
    return lexicon


@compiled
def _hash(buffer: Bytes, start: int, stop: int) -> int:
    """FNV-1a with 32 bits, its high bits folded into the low ones that the table uses."""
    value = 2166136261
    for i in range(start, stop):
        value = ((value ^ buffer[i]) * 16777619) & 0xFFFFFFFF
    return value ^ (value >> 15)


@compiled
def _find_slot(lexicon: Lexicon, buffer: Bytes, start: int, stop: int) -> int:
    """The slot that holds the spelling, else the free one where it belongs."""
    mask = len(lexicon.slots) - 1
    slot = _hash(buffer, start, stop) & mask
    while lexicon.slots[slot] >= 0:
        first = lexicon.offsets[lexicon.slots[slot]]
        if lexicon.offsets[lexicon.slots[slot] + 1] - first == stop - start:
            same = 0
            while same < stop - start and lexicon.blob[first + same] == buffer[start + same]:
                same += 1
            if same == stop - start:
                break
        slot = (slot + 1) & mask
    return slot


@compiled
def _fill(lexicon: Lexicon) -> None:
    for number in range(len(lexicon.offsets) - 1):
        slot = _find_slot(lexicon, lexicon.blob, lexicon.offsets[number], lexicon.offsets[number + 1])
        lexicon.slots[slot] = number


@compiled
def _parse_number(buffer: Bytes, position: int, stop: int) -> tuple[float, bool]:
    """A decimal number that fills `position` to `stop`, and whether it is one."""
    negative = buffer[position] == _MINUS
    if negative or buffer[position] == _PLUS:
        position += 1
    mantissa, exponent, digits, point = 0, 0, 0, False
    while position < stop:
        character = buffer[position]
        if _ZERO <= character <= _NINE:
            digits += 1
            if mantissa < 10 ** (_MAX_DIGITS - 1):
                mantissa = mantissa * 10 + (character - _ZERO)
                exponent -= point
            else:
                exponent += not point
        elif character == _POINT and not point:
            point = True
        else:
            break
        position += 1
    if digits == 0:
        return 0.0, False
    if position < stop:
        written, good = _parse_exponent(buffer, position, stop)
        if not good:
            return 0.0, False
        exponent += written
    value = mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0**-exponent
    return (-value if negative else value), value < _MAX_VALUE


@compiled
def _parse_exponent(buffer: Bytes, position: int, stop: int) -> tuple[int, bool]:
    if buffer[position] != _LOWER_E and buffer[position] != _UPPER_E:
        return 0, False
    position += 1
    negative = position < stop and buffer[position] == _MINUS
    if position < stop and (negative or buffer[position] == _PLUS):
        position += 1
    value = 0
    for i in range(position, stop):
        if not _ZERO <= buffer[i] <= _NINE:
            return 0, False
        value = min(value * 10 + (buffer[i] - _ZERO), _MAX_EXPONENT)
    return (-value if negative else value), position < stop


@compiled
def _find_line_end(buffer: Bytes, position: int) -> tuple[int, int]:
    """Where the line that begins here ends, and where the next one begins: beyond the buffer where it has no end."""
    stop = position
    while stop < len(buffer) and buffer[stop] != _NEWLINE:
        stop += 1
    end = stop - 1 if stop > position and buffer[stop - 1] == _RETURN else stop
    return end, stop + 1


@compiled
def _split(buffer: Bytes, position: int, stop: int, fields: NDArray[np.int64]) -> int:
    """Where the fields of a line begin and end, `(fields, 2)`; how many there are, one too many included."""
    found = 0
    while True:
        while position < stop and (buffer[position] == _SPACE or buffer[position] == _TAB):
            position += 1
        if position == stop:
            return found
        if found == len(fields):
            return found + 1
        fields[found, 0] = position
        while position < stop and buffer[position] != _SPACE and buffer[position] != _TAB:
            position += 1
        fields[found, 1] = position
        found += 1


@compiled
def _find_node(begin: Ints, words: Ints, history: Ints) -> int:
    node = ROOT
    for word in history:
        ngram = child(begin, words, node, word)
        if ngram < 0:
            return -1
        node = ngram + 1
    return node


@compiled
def parse_ngrams(
    buffer: Bytes,
    position: int,
    order: int,
    lexicon: Lexicon,
    begin: Ints,
    words: Ints,
    row: int,
    out_contexts: Ints,
    out_words: Ints,
    out_probs: Floats,
    out_backoffs: Floats,
) -> tuple[int, int, int]:
    """Parse the lines of the n-grams of an order from 2 up, as far as the buffer goes.

    Args:
        buffer: of the file.
        position: where in it the next line begins.
        order: how many words a line has.
        lexicon: of the words; its last spelling is one more for the unknown word.
        begin: of the trie, as far as it goes.
        words: of the trie, as far as it goes.
        row: the number of n-grams already found.
        out_contexts: `(n,)`, takes the nodes of all words but the last.
        out_words: `(n,)`, takes the last words.
        out_probs: `(n,)`, takes the probabilities.
        out_backoffs: `(n,)`, takes the back-off weights, 0 where there is none; empty for the highest order.

    Returns:
        What it stopped at; the position of the line it stopped at; the n-grams found so far.
    """
    fields = np.empty((order + 2, 2), np.int64)
    history = np.full(order, -1, np.int32)  # of the line before: neighbours often share their context
    node = ROOT
    while row < len(out_words):
        end, following = _find_line_end(buffer, position)
        if following > len(buffer):
            return MORE, position, row
        found = _split(buffer, position, end, fields)
        if found == 0 or buffer[fields[0, 0]] == _BACKSLASH:
            return SECTION_END, position, row
        if found < order + 1 or found > order + 2:
            return BAD_LINE, position, row
        known = True
        for i in range(order):
            slot = _find_slot(lexicon, buffer, fields[i + 1, 0], fields[i + 1, 1])
            word = lexicon.slots[slot]
            if word < 0:
                return NO_WORD, position, row
            word = word if word < len(lexicon.offsets) - 2 else UNKNOWN
            known = known and (word == history[i] or i == order - 1)
            history[i] = word
        if not known:
            node = _find_node(begin, words, history[: order - 1])
            if node < 0:
                return NO_CONTEXT, position, row
        out_probs[row], good = _parse_number(buffer, fields[0, 0], fields[0, 1])
        backoff = 0.0
        if found == order + 2 and good:
            backoff, good = _parse_number(buffer, fields[order + 1, 0], fields[order + 1, 1])
        if len(out_backoffs) > 0:
            out_backoffs[row] = backoff
        if not good:
            return BAD_NUMBER, position, row
        if out_probs[row] > 0.0:
            return POSITIVE, position, row
        out_contexts[row], out_words[row] = node, history[order - 1]
        row += 1
        position = following
    return FULL, position, row
