from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import random
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.corpora import download
from asr_lstm.corpora.download import fetch
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
    # Long enough for an honest server on a busy machine.
    _check(fetch(server.url, tmp_path / "corpus.tar.gz", md5=MD5, timeout_seconds=2.0))
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
