from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import logging
import os
import random
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.corpora import download
from asr_lstm.corpora.download import fetch, unpack
from asr_lstm.errors import DownloadError

CONTENT = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """A local HTTP server that answers each request as the next word of its script says, the last one on."""

    def __init__(self) -> None:
        self.script: list[str] = ["honest"]
        self.requests: list[str | None] = []  # the Range of each
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.headers.get("Range"))
                word = server.script[min(len(server.requests), len(server.script)) - 1]
                kind, _, argument = word.partition(":")
                with contextlib.suppress(ConnectionError):
                    server.answer(self, kind, int(argument or 0))

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/corpus.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, kind: str, argument: int) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if kind == "status":
            handler.send_error(argument)
            return
        if kind == "ignore":
            asked, start = None, 0
        if kind == "shifted" and asked:
            start = argument
        body = CONTENT
        if kind == "corrupt":
            body = body[:1000] + bytes(1000) + body[2000:]
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if asked else 200)
        if asked and kind != "unsaid":
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if kind != "endless":
            handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        if kind == "drop":
            handler.wfile.write(body[start : start + argument])
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "silent":
            handler.wfile.write(body[start : start + argument])
            handler.wfile.flush()
            self.release.wait(20)
        else:
            handler.wfile.write(body[start:])

    def stop(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_FIRST_WAIT_SECONDS", 0.0)
    server = Server()
    yield server
    server.stop()


def _check(path: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert not path.with_name(f"{path.name}.part").exists()


def _message(error: pytest.ExceptionInfo[DownloadError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_fetches_into_folders_that_are_not_there_yet(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a" / "b" / "corpus.tar.gz"
    assert fetch(server.url, target, md5=MD5.upper()) == target
    _check(target)
    assert capsys.readouterr().out == ""


def test_what_is_there_is_neither_fetched_nor_read_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5)

    def never(*_: Any) -> str:
        raise AssertionError("the file was read once more")

    with monkeypatch.context() as context:
        context.setattr(download, "_md5", never)
        fetch(server.url, target, md5=MD5)
    assert len(server.requests) == 1
    # Put there by hand: read once to check it, not fetched.
    (tmp_path / ".corpus.tar.gz.verified").unlink()
    fetch(server.url, target, md5=MD5)
    assert len(server.requests) == 1
    # Changed in place, same size: the marker no longer counts.
    target.write_bytes(bytes(len(CONTENT)))
    fetch(server.url, target, md5=MD5)
    assert len(server.requests) == 2
    _check(target)


def test_goes_on_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.script = ["drop:100000", "drop:50000", "honest"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]


def test_goes_on_after_silence(server: Server, tmp_path: Path) -> None:
    # A quarter of a megabyte is what one read asks for: what came of it when the server fell silent is lost.
    sent = download._BLOCK_BYTES + 100
    server.script = [f"silent:{sent}", "honest"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5, timeout_seconds=0.3))
    assert server.requests == [None, f"bytes={download._BLOCK_BYTES}-"]


def test_goes_on_in_a_later_run(server: Server, tmp_path: Path) -> None:
    server.script = ["drop:100000", "honest"]
    target = tmp_path / "corpus.tar.gz"
    with pytest.raises(DownloadError) as error:
        fetch(server.url, target, md5=MD5, attempts=1)
    message = _message(error)
    assert server.url in message
    assert "100,000" in message
    assert not target.exists()
    _check(fetch(server.url, target, md5=MD5, attempts=1))
    assert server.requests == [None, "bytes=100000-"]


@pytest.mark.parametrize("liar", ["shifted:99999", "shifted:100001", "unsaid"])
def test_a_wrong_range_starts_from_zero(server: Server, tmp_path: Path, liar: str) -> None:
    server.script = ["drop:100000", liar, "honest"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert server.requests == [None, "bytes=100000-", None]


def test_an_answer_from_the_first_byte_starts_from_zero(server: Server, tmp_path: Path) -> None:
    server.script = ["drop:100000", "shifted:0"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert len(server.requests) == 2


def test_a_server_that_ignores_range_starts_from_zero(server: Server, tmp_path: Path) -> None:
    server.script = ["drop:100000", "ignore"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert server.requests == [None, "bytes=100000-"]


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.script = ["endless"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))


def test_a_corrupted_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.script = ["corrupt"]
    with pytest.raises(DownloadError) as error:
        fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5)
    message = _message(error)
    assert server.url in message
    assert MD5 in message
    assert "mirror" in message
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_something_else_is_fetched_once_anew(server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "corpus.tar.gz.part").write_bytes(bytes(size))
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert server.requests == [f"bytes={size}-", None]


def test_a_part_that_is_whole_needs_no_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "corpus.tar.gz.part").write_bytes(CONTENT)
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_a_joined_file_that_stays_wrong_is_given_up(server: Server, tmp_path: Path) -> None:
    server.script = ["corrupt"]
    (tmp_path / "corpus.tar.gz.part").write_bytes(CONTENT[:500])
    with pytest.raises(DownloadError, match="MD5"):
        fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5)
    assert server.requests == ["bytes=500-", None]
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_of_that_name_is_replaced(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "corpus.tar.gz"
    target.write_bytes(b"half a download of another program")
    with caplog.at_level(logging.WARNING):
        _check(fetch(server.url, target, md5=MD5))
    assert str(target) in caplog.text


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_a_refusal_is_final_and_a_busy_server_asked_again(
    server: Server, tmp_path: Path, status: int, requests: int
) -> None:
    server.script = [f"status:{status}"]
    with pytest.raises(DownloadError) as error:
        fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5, attempts=3)
    assert f"{server.url}: the server answers {status}" in _message(error)
    assert len(server.requests) == requests
    server.script = ["honest"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5))


def test_only_attempts_without_progress_count(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS_BYTES", 10_000)
    server.script = ["drop:10000"] * 9 + ["honest"]
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5, attempts=2))
    assert len(server.requests) == 10


def test_starting_over_again_and_again_ends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROGRESS_BYTES", 10_000)
    # Each answer that starts over brings 20 000 bytes, but none that were not there before.
    server.script = ["drop:20000", "shifted:7"] * 20
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5, attempts=3)
    assert len(server.requests) == 4


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_FIRST_WAIT_SECONDS", 0.0)
    with socket.socket() as reserved:  # bound, not listening: refuses
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/corpus.tar.gz"
        with pytest.raises(DownloadError) as error:
            fetch(url, tmp_path / "corpus.tar.gz", md5=MD5, attempts=2)
    message = _message(error)
    assert url in message
    assert "no connection" in message


@pytest.mark.parametrize(
    "url", ["dev-clean.tar.gz", "ftp://host/x", "file:///etc/hosts", "http://a b/c", "http://h:port/"]
)
def test_not_an_http_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError) as error:
        fetch(url, tmp_path / "corpus.tar.gz", md5=MD5)
    assert _message(error).startswith(f"{url}: ")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="md5"):
        fetch("http://host/x", tmp_path / "x", md5="abc")
    with pytest.raises(ValueError, match="attempts"):
        fetch("http://host/x", tmp_path / "x", md5=MD5, attempts=0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "corpus.tar.gz"
    (tmp_path / "corpus.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError) as error:
        fetch(server.url, target, md5=MD5)
    message = _message(error)
    assert str(target) in message
    assert os.strerror(errno.ENOSPC) in message
    assert len(server.requests) == 1


def test_a_folder_that_cannot_be_made_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError) as error:
        fetch(server.url, tmp_path / "file" / "corpus.tar.gz", md5=MD5)
    assert "choose another folder" in _message(error)
    assert server.requests == []


# --- unpack


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
