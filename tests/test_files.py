from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr_lstm.errors import DataError
from asr_lstm.files import atomic_write, check_writable


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("žluťoučký\n")
    assert (tmp_path / "a.txt").read_bytes() == "žluťoučký\n".encode()


def test_bytes_and_missing_folders(tmp_path: Path) -> None:
    with atomic_write(str(tmp_path / "new" / "deep" / "a.bin"), "wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "new" / "deep" / "a.bin").read_bytes() == b"\x00\xff"


def test_the_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_everything_as_it_was(
    error: type[BaseException], existed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    if existed:
        path.write_text("old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write()
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == (
        {"a.txt": "old"} if existed else {}
    )


def test_permissions_are_those_of_any_new_file(umask: int, tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask
    assert os.umask(umask) == umask  # reading the mask has not changed it


def test_the_temporary_file_is_private_beside_the_target_and_hidden(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt"):
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".a.txt.")
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with (
        pytest.raises(DataError, match=r"a\.txt: cannot write here \(Permission denied\)"),
        atomic_write(tmp_path / "a.txt"),
    ):
        pass


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as caught, atomic_write(tmp_path / "file" / "a.txt"):
        pass
    assert str(caught.value).startswith(f"{tmp_path / 'file' / 'a.txt'}: cannot write here (")


def test_a_target_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(DataError) as caught, atomic_write(tmp_path / "results.json") as file:
        file.write("x")
    assert str(caught.value).startswith(f"{tmp_path / 'results.json'}: ")
    assert [item.name for item in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_is_replaced_hands_its_permissions_on(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.touch(mode=0o600)
    with atomic_write(path) as file:
        file.write("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_one(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "other" / "target"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("old", "new"):  # the first time the target is not there yet
        check_writable(link)
        with atomic_write(link) as file:
            file.write(text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    with atomic_write(pipe, "wb") as file:
        file.write(b"heard")
    assert os.read(reader, 100) == b"heard"
    os.close(reader)
    assert pipe.is_fifo()


def test_output_that_a_shell_leads_to_a_file_is_added_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    code = (
        "from asr_lstm.files import atomic_write\n"
        "print('printed')\n"
        "with atomic_write('/dev/stdout') as file: file.write('written\\n')\n"
        "print('after')"
    )
    with log.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert log.read_text() == "before\nprinted\nwritten\nafter\n"


def test_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="cannot write here"), atomic_write(tmp_path / "a"):
        pass
