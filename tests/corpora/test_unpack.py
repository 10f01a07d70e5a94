from __future__ import annotations

import errno
import gzip
import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.corpora.unpack import unpack
from asr_lstm.errors import DownloadError


def _message(error: pytest.ExceptionInfo[DownloadError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def _file(name: str, content: bytes = b"data") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def _special(name: str, kind: bytes, linkname: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member, b""


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    members = [
        _special("LibriSpeech", tarfile.DIRTYPE),
        _file("LibriSpeech/README.TXT", b"new"),
        _file("LibriSpeech/dev-clean/1/2/1-2.trans.txt", b"1-2-0000 A"),
        _file("LibriSpeech/dev-clean/1/2/1-2-0000.flac", random.Random(2).randbytes(5000)),
    ]
    return _tar(tmp_path / "dev-clean.tar.gz", members)


def test_unpacks_beside_what_is_there(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpora"
    (folder / "LibriSpeech" / "test-clean").mkdir(parents=True)
    (folder / "LibriSpeech" / "test-clean" / "x.flac").write_bytes(b"mine")
    (folder / "LibriSpeech" / "README.TXT").write_bytes(b"old")
    unpack(archive, folder)
    tree = _tree(folder)
    assert tree.pop("LibriSpeech/dev-clean/1/2/1-2-0000.flac") == random.Random(2).randbytes(5000)
    assert tree == {
        "LibriSpeech/README.TXT": b"new",
        "LibriSpeech/dev-clean/1/2/1-2.trans.txt": b"1-2-0000 A",
        "LibriSpeech/test-clean/x.flac": b"mine",
    }
    assert [path.name for path in folder.iterdir()] == ["LibriSpeech"]


def test_modes_are_not_taken_over(tmp_path: Path) -> None:
    member = tarfile.TarInfo("LibriSpeech/run.sh")
    member.mode = 0o6777
    unpack(_tar(tmp_path / "a.tar.gz", [(member, b"#!")]), tmp_path / "out")
    assert (tmp_path / "out/LibriSpeech/run.sh").stat().st_mode & 0o6111 == 0


@pytest.mark.parametrize(
    "bad",
    [
        [_file("/evil.txt")],
        [_file("../evil.txt")],
        [_file("LibriSpeech/../../evil.txt")],
        [_special("../evil", tarfile.DIRTYPE)],
        [_special("LibriSpeech/link", tarfile.SYMTYPE, "../../outside")],
        [_special("LibriSpeech/link", tarfile.SYMTYPE, "/etc/passwd")],
        [_special("LibriSpeech/link", tarfile.SYMTYPE, "good.txt")],
        [_special("link", tarfile.SYMTYPE, ".."), _file("link/evil.txt")],
        [_special("LibriSpeech/hard", tarfile.LNKTYPE, "../../outside/secret")],
        [_special("LibriSpeech/hard", tarfile.LNKTYPE, "good.txt")],
        [_special("LibriSpeech/null", tarfile.CHRTYPE)],
        [_special("LibriSpeech/disk", tarfile.BLKTYPE)],
        [_special("LibriSpeech/pipe", tarfile.FIFOTYPE)],
    ],
    ids=lambda bad: f"{bad[0][0].type.decode()} {bad[0][0].name} {bad[0][0].linkname}",
)
def test_what_would_escape_is_refused_as_a_whole(tmp_path: Path, bad: list[Any]) -> None:
    folder = tmp_path / "corpora"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    archive = _tar(tmp_path / "evil.tar.gz", [_file("good.txt"), *bad, _file("LibriSpeech/more.txt")])
    before = _tree(tmp_path)
    with pytest.raises(DownloadError) as error:
        unpack(archive, folder)
    message = _message(error)
    assert str(archive) in message
    assert repr(bad[0][0].name) in message
    assert _tree(tmp_path) == before
    assert list(folder.iterdir()) == []
    assert not Path("/evil.txt").exists()


def test_a_damaged_archive_is_refused_wherever_it_ends(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    folder = tmp_path / "corpora"
    cuts = [*range(0, len(data), 97), *range(len(data) - 40, len(data))]
    for cut in cuts:
        archive.write_bytes(data[:cut])
        with pytest.raises(DownloadError, match="fetch it again"):
            unpack(archive, folder)
        assert list(folder.iterdir()) == [], cut


def _flip(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[-6] ^= 1  # in gzip's own checksum, at the end
    return bytes(changed)


@pytest.mark.parametrize(
    "spoil",
    [lambda _: b"<html>Log in to the network</html>", lambda _: gzip.compress(b"no tar" * 500), _flip],
    ids=["html", "gzip of no tar", "checksum"],
)
def test_what_is_no_archive_is_refused(
    archive: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(DownloadError) as error:
        unpack(archive, tmp_path / "corpora")
    assert str(archive) in _message(error)
    assert list((tmp_path / "corpora").iterdir()) == []


def test_an_interruption_leaves_nothing_that_looks_whole(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpora"
    copies = 0
    copy = shutil.copyfileobj

    def interrupted(*args: Any) -> None:
        nonlocal copies
        copies += 1
        if copies == 3:
            raise KeyboardInterrupt
        copy(*args)

    with monkeypatch.context() as context:
        context.setattr(shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, folder)
    assert list(folder.iterdir()) == []
    # A kill cannot tidy up: its leavings must not get into the corpus.
    leavings = folder / ".dev-clean.tar.gz.unpacking" / "LibriSpeech" / "dev-clean" / "9"
    leavings.mkdir(parents=True)
    unpack(archive, folder)
    assert not (folder / "LibriSpeech" / "dev-clean" / "9").exists()
    assert (folder / "LibriSpeech" / "dev-clean" / "1" / "2" / "1-2-0000.flac").exists()


def test_a_disk_that_fills_up_while_unpacking_is_one_line(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DownloadError) as error:
        unpack(archive, tmp_path / "corpora")
    message = _message(error)
    assert str(tmp_path / "corpora") in message
    assert os.strerror(errno.ENOSPC) in message
    assert list((tmp_path / "corpora").iterdir()) == []


def test_no_archive_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as error:
        unpack(tmp_path / "none.tar.gz", tmp_path / "corpora")
    assert "none.tar.gz" in _message(error)
