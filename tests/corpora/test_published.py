"""What the corpora of one archive share: fetching without a published checksum, finding, writing splits."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_lstm.corpora import download
from asr_lstm.corpora.published import (
    Archive,
    download_archive,
    fetch_archive,
    find_corpus,
    keep_sound,
    write_split,
)
from asr_lstm.errors import DataError, DownloadError
from asr_lstm.manifest import Utterance, read_manifest


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


WHOLE = _tar({"corpus/a.wav": b"a" * 5000, "corpus/b.wav": b"b" * 5000, "corpus/README": b"read me"})


class Server:
    """A local HTTP server: `body` is what it sends, `cut` after how many bytes it hangs up, once."""

    def __init__(self) -> None:
        self.body = WHOLE
        self.cut: int | None = None
        self.ranges: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                if start >= len(server.body):
                    self.send_error(416)
                    return
                self.send_response(206 if asked else 200)
                if asked:
                    total = len(server.body)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Length", str(len(server.body) - start))
                self.end_headers()
                cut, server.cut = server.cut, None
                self.wfile.write(server.body[start : cut if cut else None])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/corpus.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
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


def _archive(server: Server, **changes: Any) -> Archive:
    return Archive(
        "Corpus", server.url, **{"folder": "corpus", "files": {"*.wav": 2}, "megabytes": 1} | changes
    )


def test_an_unsigned_archive_is_fetched_once(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "corpus.tar.gz"
    assert fetch_archive(server.url, target) == target
    assert target.read_bytes() == WHOLE
    assert fetch_archive(server.url, target) == target
    assert server.ranges == [None]
    # Cut by a copy that failed: gzip's checksum at the end is gone, so it is fetched again.
    target.write_bytes(WHOLE[:-9])
    fetch_archive(server.url, target)
    assert target.read_bytes() == WHOLE


def test_an_unsigned_archive_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cut = 100
    target = fetch_archive(server.url, tmp_path / "corpus.tar.gz")
    assert target.read_bytes() == WHOLE
    assert server.ranges == [None, "bytes=100-"]


def test_parts_that_do_not_fit_are_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "corpus.tar.gz.part").write_bytes(bytes(100))
    target = fetch_archive(server.url, tmp_path / "corpus.tar.gz")
    assert target.read_bytes() == WHOLE
    assert server.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("body", [b"<html>Log in</html>", WHOLE[:-20], gzip.compress(b"x" * 99)[:-1]])
def test_what_is_no_whole_archive_is_refused(server: Server, tmp_path: Path, body: bytes) -> None:
    server.body = body
    with pytest.raises(DownloadError, match=r"corpus\.tar\.gz: what the server sends is not a whole gzip"):
        fetch_archive(server.url, tmp_path / "corpus.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_downloads_unpacks_and_counts(server: Server, tmp_path: Path) -> None:
    corpus = download_archive(_archive(server), tmp_path)
    assert corpus == tmp_path / "corpus"
    assert (corpus / "b.wav").read_bytes() == b"b" * 5000
    (tmp_path / "corpus.tar.gz").unlink()
    assert download_archive(_archive(server), tmp_path) == corpus
    assert len(server.ranges) == 1


def test_another_number_of_files_is_not_the_corpus(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"gave 2 files corpus/\*\.wav, the corpus has 3; delete it"):
        download_archive(_archive(server, files={"*.wav": 3}), tmp_path)
    # Nor is it on a second try, without being fetched again.
    with pytest.raises(DownloadError, match="gave 2 files"):
        download_archive(_archive(server, files={"*.wav": 3}), tmp_path)
    assert len(server.ranges) == 1


def test_a_published_checksum_is_asked_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"has the SHA-256 [0-9a-f]*, not the published {'0' * 64}"):
        download_archive(_archive(server, sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []
    download_archive(_archive(server, sha256=hashlib.sha256(WHOLE).hexdigest()), tmp_path)
    assert (tmp_path / "corpus" / "a.wav").is_file()


def test_finds_the_corpus_where_it_lies_or_is_fetched_to(server: Server, tmp_path: Path) -> None:
    archive = _archive(server)
    data = tmp_path / "data"
    assert find_corpus(archive, source="", download=True, data=data) == data / "corpus"
    mine = tmp_path / "mine"
    assert find_corpus(archive, source=mine, download=True, data=data) == mine / "corpus"
    # Named as the corpus itself, it is not put inside itself.
    assert find_corpus(archive, source=mine / "corpus", download=True, data=data) == mine / "corpus"
    assert find_corpus(archive, source=str(mine), download=False, data=data) == mine
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_corpus(archive, source=tmp_path / "nowhere", download=False, data=data)


def test_without_a_corpus_both_ways_out_are_said(tmp_path: Path) -> None:
    archive = Archive("Corpus", "https://example.org/c.tar.gz", "corpus", {"*": 1}, megabytes=7)
    with pytest.raises(DataError) as error:
        find_corpus(archive, source="", download=False, data=tmp_path)
    message = str(error.value)
    assert "\n" not in message
    for said in ("DATA=/path/to/corpus", "DOWNLOAD=1", "7 MB", "https://example.org/c.tar.gz"):
        assert said in message


def test_faulty_recordings_are_left_out_and_listed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", np.full(4000, 0.1), 8000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    rows = [Utterance(tmp_path / f"{name}.wav", "yes", duration=0.0) for name in ("good", "bad")]
    sound = keep_sound(rows, output=tmp_path / "out")
    assert [(row.id, row.duration) for row in sound] == [("good", 0.5)]
    assert "bad" in (tmp_path / "out" / "dropped.tsv").read_text()
    assert [row.id for row in read_manifest(write_split(tmp_path / "out", "train", sound))] == ["good"]
    with pytest.raises(DataError, match=r"dropped\.tsv.*nothing is left for dev"):
        write_split(tmp_path / "out", "dev", [])
