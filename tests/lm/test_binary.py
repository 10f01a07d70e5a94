from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_lstm.errors import DataError
from asr_lstm.lm.binary import MAGIC, is_binary, load_binary, save_binary
from asr_lstm.lm.kneser_ney import train_ngram


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_binary(tmp_path / "model.ngram", train_ngram(["a b a", "b été"], order=3))
    return tmp_path / "model.ngram"


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, ngram_assets: Path) -> None:
    lines = (ngram_assets / "text.txt").read_text(encoding="utf-8").splitlines()
    for order in (1, 2, 4):
        model = train_ngram(lines, order=order)
        save_binary(tmp_path / "model.ngram", model)
        loaded = load_binary(tmp_path / "model.ngram")
        assert (loaded.words, loaded.counts) == (model.words, model.counts)
        for mine, its in zip(loaded.trie, model.trie, strict=True):
            assert mine.dtype == its.dtype
            np.testing.assert_array_equal(mine, its)
        assert loaded.log_prob(["alice", "was"]) == model.log_prob(["alice", "was"])


def test_the_layout_is_as_documented(saved: Path) -> None:
    """Read without the module, by what its documentation says."""
    content = saved.read_bytes()
    magic, version, length, checksum, zero = struct.unpack_from("<16sIIII", content)
    assert (magic, version, zero) == (b"asr-lstm n-gram\n", 1, 0)
    description = content[32 : 32 + length]
    assert zlib.crc32(description) == checksum
    told = json.loads(description)
    assert told["size"] == len(content)
    vocabulary = told["arrays"]["vocabulary"]
    assert vocabulary["offset"] % 64 == 0
    words = content[vocabulary["offset"] :][: vocabulary["length"]].decode().split("\n")
    assert words == ["<unk>", "<s>", "</s>", "a", "b", "été", ""]
    first = told["arrays"]["words"]
    numbers = np.frombuffer(content, first["dtype"], first["length"], first["offset"])
    assert numbers[: told["words"]].tolist() == list(range(6))


def damage(path: Path, change: dict[str, Any]) -> None:
    """Change the description, its checksum with it."""
    content = bytearray(path.read_bytes())
    length = struct.unpack_from("<I", content, 20)[0]
    description = json.dumps(json.loads(content[32 : 32 + length]) | change).encode()
    content[32 : 32 + len(description)] = description
    struct.pack_into("<II", content, 20, len(description), zlib.crc32(description))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"counts": [6, 7, 8]}, "damaged: its arrays are not as long"),
        ({"counts": "many"}, "damaged"),
        ({"arrays": {}}, "damaged"),
        ({"size": 5}, "cut short"),
    ],
)
def test_a_description_that_is_wrong_is_told(saved: Path, change: dict[str, Any], problem: str) -> None:
    damage(saved, change)
    with pytest.raises(DataError, match=f"^{saved}: .*{problem}"):
        load_binary(saved)


def test_another_version_is_told(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[16] = 9
    saved.write_bytes(content)
    assert is_binary(saved)
    with pytest.raises(DataError, match=r"of version 9, not 1; write it again from the ARPA file"):
        load_binary(saved)


def test_every_cut_and_any_change_of_the_head_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    head = 32 + struct.unpack_from("<I", content, 20)[0]
    for length in (*range(0, head, 29), head, 4096, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(DataError):
            load_binary(saved)
    for place in [*range(28), *range(32, head, 31)]:
        changed = bytearray(content)
        changed[place] ^= 0x20
        saved.write_bytes(changed)
        with pytest.raises(DataError):
            load_binary(saved)


def test_other_files_are_told(tmp_path: Path) -> None:
    for content in (b"", b"\\data\\\n", MAGIC[:8]):
        (tmp_path / "other").write_bytes(content)
        assert not is_binary(tmp_path / "other")
        with pytest.raises(DataError, match="not a binary n-gram model"):
            load_binary(tmp_path / "other")
    with pytest.raises(DataError, match="cannot read"):
        load_binary(tmp_path / "absent")
