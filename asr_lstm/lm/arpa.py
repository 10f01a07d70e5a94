"""ARPA files, the common text form of back-off n-gram models: read as a stream, and written; gz too.

    \\data\\
    ngram 1=COUNT
    ngram 2=COUNT

    \\1-grams:
    LOG10_PROBABILITY<tab>WORD<tab>LOG10_BACKOFF
    ...
    \\2-grams:
    LOG10_PROBABILITY<tab>WORD WORD
    ...
    \\end\\

The back-off weight may be missing where it is 0. As in kenlm, <UNK> is <unk>; a model without one gives an
unknown word the log10 probability -100; the context of each n-gram must be an n-gram itself.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.lm import arpa_lines
from asr_lstm.lm.arpa_lines import Lexicon, make_lexicon, parse_ngrams
from asr_lstm.lm.arpa_source import ArpaSource, show_progress
from asr_lstm.lm.ngram import BEGIN_WORD, END_WORD, SPECIAL_WORDS, UNKNOWN_WORD, NgramModel
from asr_lstm.lm.trie import MAX_NGRAMS, DuplicateNgram, Floats, Trie, TrieBuilder, ngram_words

UNKNOWN_VARIANT = b"<UNK>"  # how some toolkits spell <unk>
MISSING_UNKNOWN = -100.0  # kenlm's log10 probability of <unk> where a file has none

_MAX_PREAMBLE = 1000  # lines before \data\
# A line of an n-gram has at least this many bytes, and deflate makes nothing smaller than by this factor: a
# header that promises more n-grams than the file can hold is found out before memory is asked for.
_MIN_LINE, _MAX_DEFLATE = 6, 1032
_COUNT = re.compile(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})")
_SHOWN = 60  # characters of a faulty line in its error
_WRITE_ROWS = 1 << 16  # n-grams written at a time

_FAULTS = {
    arpa_lines.SECTION_END: "the header promises {count} {order}-grams, here end only {row}",
    arpa_lines.BAD_NUMBER: "a probability or back-off weight is no number: {line}",
    arpa_lines.BAD_LINE: "expected PROBABILITY, {order} word(s) and perhaps a BACKOFF, found {line}",
    arpa_lines.NO_WORD: "a word is not among the 1-grams: {line}",
    arpa_lines.NO_CONTEXT: "the context, all words but the last, is no n-gram of its own: {line}",
    arpa_lines.POSITIVE: "a log10 probability above 0: {line}",
}


def read_arpa(path: str | Path) -> NgramModel:
    """Read an ARPA file, plain or gz.

    Time is linear in the number of n-grams, and so is memory: 12 bytes for each, 12 more for each that is a
    context, and for a while 20 more for each of the order that is being read.

    Raises:
        DataError: the file cannot be read, or is no sound ARPA file; the line is named.
    """
    try:
        with ArpaSource(Path(path)) as source, show_progress(source) as show:
            counts = _read_header(source)
            words, probs, backoffs = _read_unigrams(source, counts[0])
            counts[0] = len(words)
            builder = TrieBuilder(counts)
            numbers = np.arange(len(words), dtype=np.int32)
            builder.add(1, np.zeros_like(numbers), numbers, probs, backoffs if len(counts) > 1 else None)
            lexicon = make_lexicon([*(word.encode() for word in words), UNKNOWN_VARIANT])
            for order in range(2, len(counts) + 1):
                _read_order(source, order, builder, words, lexicon, show)
            _expect(source, b"\\end\\", order=len(counts))
    except OSError as error:
        raise DataError(f"{path}: cannot read the language model ({error.strerror or error})") from error
    return NgramModel(builder.finish(), words, counts)


def _read_header(source: ArpaSource) -> list[int]:
    """How many n-grams of each order the file promises."""
    for _ in range(_MAX_PREAMBLE):
        line = source.read_line()
        if line is None or line.strip().removeprefix(b"\xef\xbb\xbf") == b"\\data\\":
            break
    else:
        line = None
    if line is None:
        raise DataError(f"{source.path}: not an ARPA file: no line \\data\\; give one in UTF-8, plain or gz")
    counts: list[int] = []
    while line := (source.read_line() or b"").strip():
        match = _COUNT.fullmatch(line)
        if match is None or int(match[1]) != len(counts) + 1:
            raise source.fault(f"expected `ngram {len(counts) + 1}=COUNT`, found {_shown(line)}")
        counts.append(int(match[2]))
    if not counts or not counts[0]:
        raise source.fault("the header promises no n-grams; a model needs `ngram 1=COUNT` at least")
    room = source.size * (_MAX_DEFLATE if source.zipped else 1)
    if sum(counts) > MAX_NGRAMS or sum(counts) * _MIN_LINE > room:
        raise source.fault(
            f"the header promises {sum(counts)} n-grams, more than the file or a model can hold"
        )
    return counts


def _read_unigrams(source: ArpaSource, count: int) -> tuple[list[str], Floats, Floats]:
    """The words, the special ones first, with their log10 probabilities and back-off weights."""
    _expect(source, b"\\1-grams:", order=0)
    found: dict[str, tuple[float, float]] = {}
    for row in range(count):
        line = source.read_line()
        if line is None:
            raise source.cut_short()
        if not line.strip() or line.startswith(b"\\"):
            raise source.fault(f"the header promises {count} 1-grams, here end only {row}")
        word, prob, backoff = _parse_unigram(line, source)
        if word in found:
            raise source.fault(f"the 1-gram {word!r} stands there twice; leave it once")
        found[word] = prob, backoff
    for word in (BEGIN_WORD, END_WORD):
        if word not in found:
            raise source.fault(f"the 1-grams lack {word}: the model was not made of sentences; train it anew")
    found.setdefault(UNKNOWN_WORD, (MISSING_UNKNOWN, 0.0))
    words = [*SPECIAL_WORDS, *(word for word in found if word not in SPECIAL_WORDS)]
    values = np.array([found[word] for word in words], np.float32)
    return words, values[:, 0], values[:, 1]


def _parse_unigram(line: bytes, source: ArpaSource) -> tuple[str, float, float]:
    fields = [field for field in line.replace(b"\t", b" ").split(b" ") if field]
    if len(fields) not in (2, 3):
        raise source.fault(_FAULTS[arpa_lines.BAD_LINE].format(order=1, line=_shown(line)))
    try:
        prob, backoff = float(fields[0]), float(fields[2]) if len(fields) == 3 else 0.0
    except ValueError:
        prob = math.nan
    if not (math.isfinite(prob) and math.isfinite(backoff)):
        raise source.fault(_FAULTS[arpa_lines.BAD_NUMBER].format(line=_shown(line)))
    if prob > 0:
        raise source.fault(_FAULTS[arpa_lines.POSITIVE].format(line=_shown(line)))
    try:
        word = fields[1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise source.fault(f"{_shown(line)} is not UTF-8 text; convert the file to UTF-8") from error
    return UNKNOWN_WORD if fields[1] == UNKNOWN_VARIANT else word, prob, backoff


def _read_order(
    source: ArpaSource,
    order: int,
    builder: TrieBuilder,
    words: Sequence[str],
    lexicon: Lexicon,
    show: Callable[[], None],
) -> None:
    """Read the section of an order from 2 up into the builder."""
    _expect(source, b"\\%d-grams:" % order, order=order - 1)
    count, highest = builder.counts[order - 1], order == len(builder.counts)
    contexts, last_words = np.empty(count, np.int32), np.empty(count, np.int32)
    probs, backoffs = np.empty(count, np.float32), np.empty(0 if highest else count, np.float32)
    row, status = 0, arpa_lines.MORE if count else arpa_lines.FULL
    while status == arpa_lines.MORE:
        status, source.position, done = parse_ngrams(
            np.frombuffer(source.buffer, np.uint8),
            source.position,
            order,
            lexicon,
            builder.begin,
            builder.words,
            row,
            contexts,
            last_words,
            probs,
            backoffs,
        )
        source.line += done - row
        row = done
        show()
        if status == arpa_lines.MORE and not source.fill():
            raise source.cut_short()
    if status != arpa_lines.FULL:
        line = source.read_line() or b""
        problem = _FAULTS[status].format(order=order, count=count, row=row, line=_shown(line))
        raise source.fault(problem)
    try:
        builder.add(order, contexts, last_words, probs, None if highest else backoffs)
    except DuplicateNgram as error:
        twice = " ".join(words[number] for number in [*builder.history(error.context), error.word])
        raise DataError(
            f"{source.path}: the {order}-gram {twice!r} stands there twice; leave it once"
        ) from error


def _expect(source: ArpaSource, heading: bytes, *, order: int) -> None:
    """Read the heading that follows the n-grams of an order."""
    line = source.read_filled_line()
    if line.strip() != heading:
        surplus = f"; the header promises fewer {order}-grams" if order and not line.startswith(b"\\") else ""
        raise source.fault(f"expected {_shown(heading)}, found {_shown(line)}{surplus}")


def _shown(line: bytes) -> str:
    """A line as an error shows it: what is not text escaped, and not more than a glance."""
    text = line.decode("utf-8", errors="backslashreplace")
    text = "".join(character if character.isprintable() else " " for character in text)
    return f"`{text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}`"


def write_arpa(path: str | Path, model: NgramModel) -> None:
    """Write an ARPA file, as gz if its name ends in .gz; numbers with as many digits as a float32 has.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    with atomic_write(path, "wb") as file, ExitStack() as stack:
        if path.suffix == ".gz":  # no time in it, so that equal models make equal files
            file = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0)))
        counts = (f"ngram {order}={count}\n" for order, count in enumerate(model.counts, start=1))
        file.write(f"\\data\\\n{''.join(counts)}".encode())
        words = np.array(model.words, object)
        first = 0
        for order, count in enumerate(model.counts, start=1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for start in range(first, first + count, _WRITE_ROWS):
                rows = np.arange(start, min(start + _WRITE_ROWS, first + count))
                file.write("".join(_lines(model.trie, rows, order, words)).encode())
            first += count
        file.write(b"\n\\end\\\n")


def _lines(trie: Trie, rows: NDArray[np.int64], order: int, words: NDArray[np.object_]) -> Iterator[str]:
    numbers = ngram_words(trie, rows, order)
    texts = map(" ".join, words[numbers].tolist())
    probs = trie.probs[rows].tolist()
    if rows[-1] + 1 >= len(trie.backoffs):
        return (f"{prob:.9g}\t{text}\n" for prob, text in zip(probs, texts, strict=True))
    backoffs = trie.backoffs[rows + 1].tolist()
    return (
        f"{prob:.9g}\t{text}\t{backoff:.9g}\n" if backoff else f"{prob:.9g}\t{text}\n"
        for prob, text, backoff in zip(probs, texts, backoffs, strict=True)
    )
