"""The compact form of an n-gram model: one file that is mapped into memory, so that it loads at once.

Layout, all numbers little-endian:

    16 bytes   "asr-lstm n-gram\\n"
    uint32     version of this layout
    uint32     length of the description in bytes
    uint32     CRC-32 of the description
    uint32     0
    JSON       the description: {"counts": n-grams of each order, "words": number of words,
               "arrays": {NAME: {"dtype", "length", "offset"}}, "size": bytes of the whole file}
    arrays     from byte 4096 on, each at a multiple of 64 bytes: those of `asr_lstm.lm.trie.Trie`, and
               `vocabulary`, the words in the order of their numbers, UTF-8, a newline after each

A model of 10 million 3-grams, 4 million of them 1- and 2-grams, takes 12 bytes an n-gram and 12 more for each
of the 4 million that are contexts: 168 MB and its words.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write
from asr_lstm.lm.ngram import SPECIAL_WORDS, NgramModel
from asr_lstm.lm.trie import Trie

MAGIC = b"asr-lstm n-gram\n"
VERSION = 1

_HEAD = struct.Struct("<16s4I")
_ROOM = 4096  # for head and description: a page, and more than an order of 100 takes
_ALIGNMENT = 64  # a cache line, and a multiple of every item's size
_DTYPES = {
    "begin": "<i4",
    "words": "<i4",
    "probs": "<f4",
    "following": "<i4",
    "backoffs": "<f4",
    "suffixes": "<i4",
    "vocabulary": "|u1",
}
_AGAIN = "write it again from the ARPA file or the text"


def is_binary(path: str | Path) -> bool:
    """Whether a file begins as a binary model, of whatever version; `OSError` if it cannot be read."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def save_binary(path: str | Path, model: NgramModel) -> None:
    """Write a model in its binary form.

    Raises:
        DataError: the file cannot be written.
    """
    vocabulary = np.frombuffer("".join(f"{word}\n" for word in model.words).encode(), np.uint8)
    arrays: dict[str, NDArray[Any]] = {**model.trie._asdict(), "vocabulary": vocabulary}
    description, offsets = _describe(model, arrays)
    with atomic_write(path, "wb") as file:
        file.write(_HEAD.pack(MAGIC, VERSION, len(description), zlib.crc32(description), 0))
        file.write(description)
        for name, array in arrays.items():
            file.write(bytes(offsets[name] - file.tell()))
            file.write(np.ascontiguousarray(array, _DTYPES[name]).data)


def _describe(model: NgramModel, arrays: dict[str, NDArray[Any]]) -> tuple[bytes, dict[str, int]]:
    """The description, and where each array goes."""
    end, rows, offsets = _ROOM, {}, {}
    for name, array in arrays.items():
        offsets[name] = -(-end // _ALIGNMENT) * _ALIGNMENT
        rows[name] = {"dtype": _DTYPES[name], "length": len(array), "offset": offsets[name]}
        end = offsets[name] + array.nbytes
    content = {"counts": list(model.counts), "words": len(model), "arrays": rows, "size": end}
    return json.dumps(content).encode(), offsets


def load_binary(path: str | Path) -> NgramModel:
    """Map a binary model into memory; what is not asked of it is never read, and so its numbers are not checked.

    Raises:
        DataError: the file cannot be read, is no binary model, or is of another version, cut short or damaged.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            description = _read_description(file.read(_HEAD.size), file, path)
            if description["size"] != size:
                raise DataError(f"{path}: {size} bytes instead of {description['size']}: cut short; {_AGAIN}")
            # A private copy, though nothing writes to it: numba compiles for read-only arrays once more.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise DataError(f"{path}: cannot read the language model ({error.strerror})") from error
    try:
        arrays = {
            name: _array(content, dtype, description["arrays"][name]) for name, dtype in _DTYPES.items()
        }
        counts = [int(count) for count in description["counts"]]
        words = arrays.pop("vocabulary").tobytes().decode("utf-8").split("\n")[:-1]
        trie = Trie(**arrays)
        _check(trie, words, counts)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged: {error}; {_AGAIN}") from error
    return NgramModel(trie, words, counts)


def _read_description(head: bytes, file: IO[bytes], path: str | Path) -> dict[str, Any]:
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise DataError(f"{path}: not a binary n-gram model; give one, or an ARPA file")
    _, version, length, checksum, _ = _HEAD.unpack(head)
    if version != VERSION:
        raise DataError(f"{path}: a binary model of version {version}, not {VERSION}; {_AGAIN}")
    text = file.read(min(length, _ROOM))
    if zlib.crc32(text) != checksum:
        raise DataError(f"{path}: damaged, its description's checksum is wrong; {_AGAIN}")
    content = json.loads(text)
    return cast("dict[str, Any]", content)


def _array(content: mmap.mmap, dtype: str, row: dict[str, int]) -> NDArray[Any]:
    return np.frombuffer(content, np.dtype(dtype), int(row["length"]), int(row["offset"]))


def _check(trie: Trie, words: list[str], counts: list[int]) -> None:
    """What can be checked without reading the file through."""
    nodes = 1 + sum(counts[:-1])
    lengths = (nodes + 1, *[sum(counts)] * 3, nodes, nodes)
    if [len(array) for array in trie] != list(lengths):
        raise ValueError("its arrays are not as long as its counts say")
    if len(words) != counts[0] or tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
        raise ValueError("its words are not those of its 1-grams")
    if trie.begin[0] != 0 or trie.begin[1] != len(words) or trie.begin[-1] != sum(counts):
        raise ValueError("its n-grams do not begin and end where they should")
