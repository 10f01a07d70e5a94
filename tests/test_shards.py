"""Shards hold the files as they are: what is read from them is what is read from the files."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr_lstm.audio import load_utterance
from asr_lstm.batching import DataConfig
from asr_lstm.corpora.folder import prepare_folder
from asr_lstm.data import AudioCache, SpeechData
from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.shards import read_member, shard_command
from asr_lstm.speech import measure_speech
from asr_lstm.units import CharacterUnits, Normaliser

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five files of three formats, 0.7 MiB each, and two rows cut from the first."""
    random = np.random.default_rng(0)
    rows = []
    for index, suffix in enumerate(("wav", "flac", "WAV", "ogg", "flac")):
        path = tmp_path / "audio" / f"same.{index}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        noise = random.uniform(-0.5, 0.5, RATE * 22)
        soundfile.write(path, noise, RATE)
        rows.append(
            Utterance(path, "abc"[index % 3] * 3, 20.0, id=f"u{index}", speaker="s", extra={"note": index})
        )
    rows.insert(1, replace(rows[0], offset=1.5, duration=2.0, id="cut"))
    write_manifest(tmp_path / "train.jsonl", rows)
    return tmp_path / "train.jsonl"


def batches(manifest: Path) -> list[tuple[torch.Tensor, ...]]:
    rows = read_manifest(manifest)
    data = SpeechData(
        rows, rows[:1], CharacterUnits("abc"), AudioCache(load_utterance, gib=0.1),
        config=DataConfig(batch_seconds=45.0), augment=None, seed=3,
    )  # fmt: skip
    return [(batch.inputs, batch.lengths, batch.targets, batch.indices) for batch in data.train_dataloader()]


def test_training_from_shards_is_the_same_batches(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "shards"
    assert shard_command(manifest=corpus, output=output, shard_mib=1) == 0
    assert len(list(output.glob("shard-*.tar"))) > 1
    assert [path for path in output.iterdir() if path.suffix not in (".tar", ".jsonl")] == []
    for row, original in zip(read_manifest(output / "train.jsonl"), read_manifest(corpus), strict=True):
        assert read_member(row) == original.path.read_bytes()
        assert np.array_equal(load_utterance(row), load_utterance(original))
        assert replace(row, path=original.path, extra=original.extra) == original
        assert row.extra.items() >= original.extra.items()
    for first, second in zip(batches(output / "train.jsonl"), batches(corpus), strict=True):
        assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


def test_shards_may_be_moved_and_are_plain_archives_of_pairs(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "shards"
    shard_command(manifest=corpus, output=output)
    output.rename(tmp_path / "moved")
    rows = read_manifest(tmp_path / "moved" / "train.jsonl")
    assert np.array_equal(load_utterance(rows[1]), load_utterance(read_manifest(corpus)[1]))
    with tarfile.open(tmp_path / "moved" / "shard-000000.tar") as archive:
        names = archive.getnames()
    assert names[:4] == ["00000000.wav", "00000000.json", "00000001.flac", "00000001.json"]
    assert len(names) == 10, "a file from which two rows are cut is stored once"


def test_rows_cut_from_one_file_find_it_once_however_they_are_shuffled(corpus: Path, tmp_path: Path) -> None:
    rows = read_manifest(corpus)
    cuts = [
        replace(row, offset=1.0 + number, duration=1.0, id=f"{row.id} {number}")
        for number in range(6)
        for row in rows
        if row.id != "cut"
    ]
    write_manifest(tmp_path / "cuts.jsonl", cuts)
    assert shard_command(manifest=tmp_path / "cuts.jsonl", output=tmp_path / "shards", shard_mib=1) == 0
    found = read_manifest(tmp_path / "shards" / "cuts.jsonl")
    assert [row.id for row in found] == [row.id for row in cuts]
    assert len({row.path for row in found}) == 5
    for row, original in zip(found[::7], cuts[::7], strict=True):
        assert np.array_equal(load_utterance(row), load_utterance(original))


def test_a_manifest_of_shards_is_prepared_and_measured_like_one_of_files(
    corpus: Path, tmp_path: Path
) -> None:
    shard_command(manifest=corpus, output=tmp_path / "shards", shard_mib=1)
    manifest = tmp_path / "shards" / "train.jsonl"
    assert measure_speech(manifest, Normaliser()) == measure_speech(corpus, Normaliser())
    prepared = prepare_folder(tmp_path / "out", source=manifest, test=0)
    made = [row for path in prepared.manifests.values() for row in read_manifest(path)]
    assert {row.id for row in made} == {row.id for row in read_manifest(corpus)}
    assert all(len(load_utterance(row)) for row in made)
    with pytest.raises(ConfigError, match="lies in shards already"):
        shard_command(manifest=manifest, output=tmp_path / "again")


def test_what_is_whole_is_not_written_again(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "shards"
    shard_command(manifest=corpus, output=output, shard_mib=1)
    first, second, *_ = sorted(output.glob("*.tar"))
    manifest = (output / "train.jsonl").read_bytes()
    second.write_bytes(
        second.read_bytes()[:1000]
    )  # as no interrupted run of ours leaves it, but a copy might
    before = first.stat().st_mtime_ns
    whole = first.stat().st_ino
    assert shard_command(manifest=corpus, output=output, shard_mib=1) == 0
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (whole, before)
    assert (output / "train.jsonl").read_bytes() == manifest
    soundfile.write(read_manifest(corpus)[0].path, np.zeros(RATE * 23), RATE)
    assert shard_command(manifest=corpus, output=output, shard_mib=1) == 0
    assert not load_utterance(read_manifest(output / "train.jsonl")[0]).any()


@pytest.mark.parametrize("changed", ["sound", "text"])
def test_what_has_changed_is_written_again(corpus: Path, tmp_path: Path, changed: str) -> None:
    """Also sound of as many bytes as before, and a transcript, which is in the archive too."""
    output = tmp_path / "shards"
    shard_command(manifest=corpus, output=output)
    (archive,) = output.glob("*.tar")
    rows = read_manifest(corpus)
    if changed == "sound":
        size = rows[0].path.stat().st_size
        soundfile.write(rows[0].path, np.zeros(RATE * 22), RATE)
        assert rows[0].path.stat().st_size == size
        later = archive.stat().st_mtime_ns + 10**9  # however coarse the clock of the disk is
        os.utime(rows[0].path, ns=(later, later))
    else:
        write_manifest(corpus, [replace(rows[0], text="ccc"), *rows[1:]])
    shard_command(manifest=corpus, output=output)
    assert read_member(read_manifest(output / "train.jsonl")[0]) == rows[0].path.read_bytes()
    with tarfile.open(archive) as members:
        about = members.extractfile("00000000.json")
        assert about is not None
        assert json.load(about)["text"] == ("ccc" if changed == "text" else rows[0].text)


def test_an_empty_file_is_listed_and_left_out(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = read_manifest(corpus)[3].path
    empty.write_bytes(b"")
    for _ in range(2):
        assert shard_command(manifest=corpus, output=tmp_path / "shards") == 1
        assert f"{empty}: is empty" in capsys.readouterr().err
        assert len(read_manifest(tmp_path / "shards" / "train.jsonl")) == 5


def test_a_file_that_is_not_there_is_listed_and_left_out(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = read_manifest(corpus)[3].path
    gone.unlink()
    for _ in range(2):  # the second time finds the archives whole
        assert shard_command(manifest=corpus, output=tmp_path / "shards") == 1
        assert str(gone) in capsys.readouterr().err
        assert len(read_manifest(tmp_path / "shards" / "train.jsonl")) == 5


def test_a_damaged_shard_is_an_error_of_the_recording(corpus: Path, tmp_path: Path) -> None:
    shard_command(manifest=corpus, output=tmp_path / "shards")
    rows = read_manifest(tmp_path / "shards" / "train.jsonl")
    shard = rows[-1].path.parent
    content = shard.read_bytes()
    shard.write_bytes(content[: rows[-1].extra["shard_bytes"][0] + 100])
    with pytest.raises(AudioError, match=r"shard-000000\.tar/00000004\.flac: the shard ends before it"):
        load_utterance(rows[-1])
    assert len(load_utterance(rows[0]))
    shard.write_bytes(b"\0" * len(content))
    with pytest.raises(AudioError, match=r"shard-000000\.tar/00000000\.wav: is not audio"):
        load_utterance(rows[0])
    shard.unlink()
    with pytest.raises(AudioError, match=r"00000000\.wav: the shard cannot be read \(No such file"):
        load_utterance(rows[0])
    with pytest.raises(AudioError, match="two numbers of bytes, not 'x'"):
        load_utterance(replace(rows[0], extra={"shard_bytes": "x"}))


def test_what_makes_no_sense_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shard_mib: at least 1"):
        shard_command(manifest=corpus, output=tmp_path / "shards", shard_mib=0)
    with pytest.raises(ConfigError, match="name another folder"):
        shard_command(manifest=corpus, output=corpus.parent)
    write_manifest(tmp_path / "none.jsonl", [Utterance(tmp_path / "none.wav", "a", 1.0)])
    with pytest.raises(DataError, match="not one of its files can be read"):
        shard_command(manifest=tmp_path / "none.jsonl", output=tmp_path / "shards")
