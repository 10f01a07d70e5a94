from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import logging
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recordings import LIBRISPEECH, needs

from asr_lstm.corpora import download, librispeech, unpack
from asr_lstm.corpora.librispeech import (
    OFFICIAL,
    SUBSETS,
    download_librispeech,
    find_subsets,
    prepare_librispeech,
    read_subset,
)
from asr_lstm.errors import DataError, DownloadError
from asr_lstm.manifest import read_manifest


def _chapter(subset: Path, reader: int, chapter: int, lines: list[str], seconds: float = 0.5) -> Path:
    """A chapter with one recording for each line."""
    folder = subset / str(reader) / str(chapter)
    folder.mkdir(parents=True)
    name = f"{reader}-{chapter}"
    generator = np.random.default_rng(reader * 1000 + chapter)
    with (folder / f"{name}.trans.txt").open("w", encoding="utf-8") as file:
        for number, text in enumerate(lines):
            file.write(f"{name}-{number:04d} {text}\n")
            noise = generator.normal(scale=0.1, size=round(16000 * seconds))
            soundfile.write(folder / f"{name}-{number:04d}.flac", noise, 16000)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two subsets to train, two of dev, two of test: one reader and chapter each, two utterances each."""
    folder = tmp_path / "data" / "LibriSpeech"
    names = ("train-clean-5", "train-mine", "dev-clean", "dev-other", "test-clean", "test-other")
    for reader, name in enumerate(names, start=11):
        _chapter(folder / name, reader, 7, ["HELLO WORLD", "IT'S ME"])
    (folder / "SPEAKERS.TXT").write_text("; ID |SEX\n")
    (folder / "intro").mkdir()
    return folder


def test_the_table_of_subsets() -> None:
    assert len(SUBSETS) == 9
    for name, (url, md5) in SUBSETS.items():
        resource = 31 if name in ("train-clean-5", "dev-clean-2") else 12
        assert url == f"{OFFICIAL}/{resource}/{name}.tar.gz"
        assert re.fullmatch("[0-9a-f]{32}", md5)
    assert len({md5 for _, md5 in SUBSETS.values()}) == 9


def test_finds_subsets_from_the_folder_or_the_one_above(corpus: Path) -> None:
    (corpus / "dev-empty").mkdir()
    (corpus / ".train-hidden").mkdir()
    expected = ["dev-clean", "dev-other", "test-clean", "test-other", "train-clean-5", "train-mine"]
    for folder in (corpus, corpus.parent, str(corpus)):
        found = find_subsets(folder)
        assert list(found) == expected
        assert found["dev-clean"].samefile(corpus / "dev-clean")


def test_plain_split_names_are_subsets_too(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test", "testing")):
        _chapter(tmp_path / "LibriSpeech" / name, number, 1, ["A"])
    assert list(find_subsets(tmp_path)) == ["dev", "test", "train"]
    assert list(prepare_librispeech(tmp_path / "m", source=tmp_path)) == ["train", "dev", "test"]


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda folder: folder, "no such folder"),
        (lambda folder: folder.mkdir() or folder, "no folder"),
        (lambda folder: (folder / "wavs" / "x").mkdir(parents=True) or folder, "found: wavs"),
        (lambda folder: (folder / "dev-clean").mkdir(parents=True) or folder, "found: dev-clean"),
        (lambda folder: _chapter(folder / "dev-clean", 1, 2, ["A"]).parents[1], "give the folder above"),
        (lambda folder: _chapter(folder / "dev-clean", 1, 2, ["A"]).parents[0], "READER/CHAPTER"),
        (lambda folder: folder.write_text("file") and folder, "no such folder"),
    ],
    ids=["none", "empty", "another corpus", "an empty subset", "a subset", "a reader", "a file"],
)
def test_what_is_not_librispeech_is_said(tmp_path: Path, make: Any, hint: str) -> None:
    folder = make(tmp_path / "somewhere")
    with pytest.raises(DataError) as error:
        prepare_librispeech(tmp_path / "out", source=folder)
    message = str(error.value)
    assert message.startswith(f"{folder} is not a LibriSpeech folder: ")
    assert hint in message
    assert "train-*" in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_reads_lines_without_audio_and_audio_without_lines(corpus: Path) -> None:
    chapter = corpus / "dev-clean" / "13" / "7"
    transcript = chapter / "13-7.trans.txt"
    text = "\ufeff13-7-0000  HELLO  WORLD \n\n13-7-0005\tNOT\x85THERE\r\n13-7-0006\n"
    transcript.write_bytes(text.encode())
    (chapter / "._13-7-0000.flac").write_bytes(b"resource fork")
    (chapter / "._13-7.trans.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    utterances = read_subset(corpus / "dev-clean")
    assert [(item.id, item.text, item.path.is_file()) for item in utterances] == [
        ("13-7-0000", "HELLO  WORLD", True),
        ("13-7-0005", "NOT\x85THERE", False),
        ("13-7-0006", "", False),
        ("13-7-0001", "", True),
    ]
    assert {(item.speaker, item.lang, item.duration) for item in utterances} == {("13", "en", 0.0)}


def test_a_transcript_that_cannot_be_read_is_named(corpus: Path) -> None:
    transcript = corpus / "dev-clean" / "13" / "7" / "13-7.trans.txt"
    transcript.write_bytes(b"13-7-0000 CAF\xc9\n")
    with pytest.raises(DataError, match=r"13-7\.trans\.txt: .*UTF-8"):
        read_subset(corpus / "dev-clean")


def test_a_folder_without_utterances_is_named(corpus: Path) -> None:
    with pytest.raises(DataError, match="intro: no utterance"):
        read_subset(corpus / "intro")


def test_prepares_a_manifest_for_each_split(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "exp" / "manifests"
    manifests = prepare_librispeech(output, source=corpus.parent)
    assert list(manifests) == ["train", "dev", "test-clean", "test-other"]
    assert {path.name for path in output.iterdir()} == {f"{split}.jsonl" for split in manifests}
    speakers = {}
    for split, path in manifests.items():
        assert path == output / f"{split}.jsonl"
        utterances = read_manifest(path)
        speakers[split] = [item.speaker for item in utterances]
        assert {item.duration for item in utterances} == {0.5}
        assert all(item.path.is_file() and item.id == item.path.stem for item in utterances)
    assert speakers == {
        "train": ["11", "11", "12", "12"],
        "dev": ["13", "13", "14", "14"],
        "test-clean": ["15", "15"],
        "test-other": ["16", "16"],
    }
    assert read_manifest(manifests["dev"])[1].text == "IT'S ME"


def test_prepares_the_chosen_subsets(corpus: Path, tmp_path: Path) -> None:
    chosen = ["test-other", "dev-clean", "dev-clean"]
    manifests = prepare_librispeech(tmp_path / "m", source=corpus, subsets=chosen)
    assert {split: len(read_manifest(path)) for split, path in manifests.items()} == {
        "dev": 2,
        "test-other": 2,
    }
    with pytest.raises(DataError) as error:
        prepare_librispeech(tmp_path / "m", source=corpus, subsets=["dev-clean", "train-clean-100"])
    message = str(error.value)
    assert str(corpus) in message
    assert "'train-clean-100'" in message
    assert "train-clean-5" in message
    with pytest.raises(ValueError, match="subsets"):
        prepare_librispeech(tmp_path / "m", source=corpus, subsets="dev-clean")


def test_every_kind_of_fault_is_listed(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = _chapter(corpus / "train-mine", 30, 1, ["A", "B", "C", " ", "E"])
    (faulty / "30-1-0000.flac").unlink()
    cut = faulty / "30-1-0001.flac"
    cut.write_bytes(cut.read_bytes()[:-300])
    _chapter(corpus / "train-mine", 31, 1, ["A"])
    (corpus / "train-mine/31/1/31-1.trans.txt").write_text("31-1-0000 A\n31-1-0000 A AGAIN\n")
    (corpus / "dev-clean/13/7/13-7-0009.flac").write_bytes((faulty / "30-1-0002.flac").read_bytes())
    output = tmp_path / "m"
    with caplog.at_level(logging.WARNING):
        manifests = prepare_librispeech(output, source=corpus)
    train = [item.id for item in read_manifest(manifests["train"])]
    assert train == [
        "11-7-0000",
        "11-7-0001",
        "12-7-0000",
        "12-7-0001",
        "30-1-0002",
        "30-1-0004",
        "31-1-0000",
    ]
    assert len(read_manifest(manifests["dev"])) == 4
    with (output / "dropped.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["id"], row["reason"].partition(":")[0]) for row in rows] == [
        ("30-1-0000", "audio missing"),
        ("30-1-0001", "audio unreadable"),
        ("30-1-0003", "no text"),
        ("31-1-0000", "duplicate id"),
        ("13-7-0009", "no text"),
    ]
    assert rows[1]["path"] == str(cut)
    (record,) = caplog.records
    assert "5 of 20" in record.getMessage()  # 4 x 2 + 4 + 5 + 2 + 1
    # Mended and prepared once more: the list is gone.
    (corpus / "dev-clean/13/7/13-7-0009.flac").unlink()
    prepare_librispeech(output, source=corpus, subsets=["dev-clean"])
    assert not (output / "dropped.tsv").exists()


def test_a_split_without_a_sound_utterance_is_an_error(corpus: Path, tmp_path: Path) -> None:
    for path in (corpus / "test-clean").glob("*/*/*.flac"):
        path.unlink()
    with pytest.raises(DataError, match=r"dropped\.tsv: every utterance of test-clean"):
        prepare_librispeech(tmp_path / "m", source=corpus)
    assert (tmp_path / "m" / "dropped.tsv").exists()
    assert not (tmp_path / "m" / "test-clean.jsonl").exists()


@needs(LIBRISPEECH)
def test_the_real_excerpt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manifests = prepare_librispeech(tmp_path, source=LIBRISPEECH)
    assert list(manifests) == ["test-other"]
    assert caplog.records == []
    utterances = read_manifest(manifests["test-other"])
    assert len(utterances) == 100
    assert len({item.speaker for item in utterances}) == 10
    for item in utterances:
        assert item.id.split("-")[0] == item.speaker
        assert item.duration == soundfile.info(item.path).duration
    assert sum(item.duration for item in utterances) / 60 == pytest.approx(13, abs=0.5)
    text = {item.id: item.text for item in utterances}
    assert text["3005-163389-0001"] == "SOME SUNG OUT TEAR DOWN THE FENCE TEAR DOWN THE FENCE"


# --- download


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 (a new list for each test, see the fixture)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A mirror of dev-clean (resource 12) and train-clean-5 (31); its address, and the paths asked for."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_FIRST_WAIT_SECONDS", 0.0)
    for resource, name in ((12, "dev-clean"), (31, "train-clean-5")):
        archive = tmp_path / "mirror" / "resources" / str(resource) / f"{name}.tar.gz"
        archive.parent.mkdir(parents=True)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(corpus / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
            tar.add(corpus / name, f"LibriSpeech/{name}")
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        monkeypatch.setitem(librispeech.SUBSETS, name, (SUBSETS[name][0], md5))
    monkeypatch.setattr(_Quiet, "asked", [])
    handler = functools.partial(_Quiet, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/resources/", _Quiet.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_and_prepares(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = mirror
    folder = tmp_path / "fetched"
    subsets = ("dev-clean", "train-clean-5")
    corpus = download_librispeech(subsets=subsets, folder=folder, base_url=url)
    assert corpus == folder / "LibriSpeech"
    assert asked == ["/resources/12/dev-clean.tar.gz", "/resources/31/train-clean-5.tar.gz"]
    assert list(find_subsets(corpus)) == ["dev-clean", "train-clean-5"]
    manifests = prepare_librispeech(tmp_path / "m", source=folder)
    assert {split: len(read_manifest(path)) for split, path in manifests.items()} == {"train": 2, "dev": 2}
    # Again, without the archives: what is complete is left alone.
    for archive in folder.glob("*.tar.gz"):
        archive.unlink()
    (corpus / "dev-clean/13/7/13-7.trans.txt").write_text("mine")
    assert download_librispeech(subsets=subsets, folder=folder, base_url=url) == corpus
    assert (corpus / "dev-clean/13/7/13-7.trans.txt").read_text() == "mine"
    assert len(asked) == 2


def test_an_interrupted_unpacking_is_done_again_from_the_archive(
    mirror: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = mirror
    folder = tmp_path / "fetched"

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(unpack, "_move_into", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download_librispeech(subsets=["dev-clean"], folder=folder, base_url=url)
    assert not (folder / "LibriSpeech").exists()
    # Half a corpus by another program, without our mark, is made whole.
    (folder / "LibriSpeech" / "dev-clean" / "13").mkdir(parents=True)
    corpus = download_librispeech(subsets=["dev-clean"], folder=folder, base_url=url)
    assert len(list(corpus.glob("dev-clean/*/*/*.flac"))) == 2
    assert len(asked) == 1


def test_a_corrupted_mirror_leaves_no_corpus(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    url, _ = mirror
    archive = tmp_path / "mirror/resources/12/dev-clean.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-10] + bytes(10))
    with pytest.raises(DownloadError, match=r"dev-clean\.tar\.gz: .*MD5"):
        download_librispeech(subsets=["dev-clean"], folder=tmp_path / "fetched", base_url=url)
    assert list((tmp_path / "fetched").iterdir()) == []


def test_unknown_subsets_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'dev-clear'; choose from dev-clean, .*train-clean-5"):
        download_librispeech(subsets=["dev-clean", "dev-clear"], folder=tmp_path)
    with pytest.raises(DataError, match="no subset was named"):
        download_librispeech(subsets=[], folder=tmp_path)
    with pytest.raises(ValueError, match="subsets"):
        download_librispeech(subsets="dev-clean", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
