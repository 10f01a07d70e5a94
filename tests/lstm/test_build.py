"""How the C++ kernel's library is made and kept, and what happens where it cannot be had."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import build, native

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler on this machine"
)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No library loaded yet, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    build.library.cache_clear()
    yield tmp_path / "asr_lstm"
    build.library.cache_clear()


@pytest.mark.parametrize("compiler", ["absent-compiler", "false"])
def test_without_a_working_compiler_one_line_is_logged_and_torch_serves(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        stack = VariationalLSTM(4, 8, zoneout_cell=0.1, step_dropout=0.1)
        for _ in range(2):
            stack(torch.zeros(1, 3, 4), torch.tensor([3])).sum().backward()
    assert len(caplog.records) == 1
    assert "plain torch" in caplog.text


def test_no_compiler_at_all(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        assert not native.usable(torch.zeros(1))
    assert "no C++ compiler" in caplog.text


@pytest.mark.parametrize("name", ["portable", "torch"])
def test_the_environment_keeps_it_off(fresh: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ASR_LSTM_KERNEL", name)
    assert not native.usable(torch.zeros(1))
    assert not fresh.exists()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The sources where they may be changed: a single function, which takes no time to compile."""
    folder = tmp_path / "sources"
    folder.mkdir()
    folder.joinpath("native.cpp").write_text(
        '#include "native_part.h"\nextern "C" int answer() { return part(); }\n'
    )
    folder.joinpath("native_part.h").write_text("static int part() { return 42; }\n")
    monkeypatch.setattr(build, "_FOLDER", folder)
    monkeypatch.setattr(build, "_SOURCE", folder / "native.cpp")
    monkeypatch.setattr(build, "_declared", lambda library: library)
    return folder


def loaded() -> ctypes.CDLL:
    build.library.cache_clear()
    library = build.library()
    assert library is not None
    return library


@needs_compiler
def test_it_is_compiled_once_and_found_again(fresh: Path, copied: Path) -> None:
    assert loaded().answer() == 42
    (library,) = fresh.iterdir()
    written = library.stat().st_mtime_ns
    assert loaded().answer() == 42
    assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [written]


@needs_compiler
def test_a_changed_header_is_compiled_anew(fresh: Path, copied: Path) -> None:
    loaded()
    copied.joinpath("native_part.h").write_text("static int part() { return 43; }\n")
    assert loaded().answer() == 43
    assert len(list(fresh.iterdir())) == 2


@needs_compiler
def test_other_flags_of_the_processor_are_compiled_for_anew(
    fresh: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded()
    monkeypatch.setattr(build, "_processor", lambda: "x86_64 flags: another")
    loaded()
    assert len(list(fresh.iterdir())) == 2


@needs_compiler
def test_two_processes_may_compile_at_once(fresh: Path, copied: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from asr_lstm.lstm.kernels import build; "
        "build._FOLDER = Path(sys.argv[1]); build._SOURCE = build._FOLDER / 'native.cpp'; "
        "build._declared = lambda library: library; print(build.library().answer())"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(fresh.parent)}
    command = [sys.executable, "-c", code, str(copied)]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["42", "42"]
    assert [path.suffix for path in fresh.iterdir()] == [".so"]


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="a shell script as compiler")
def test_one_that_is_killed_while_it_compiles_holds_nobody_up(
    fresh: Path, copied: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1 || kill -KILL $PPID\n')
    compiler.chmod(0o755)
    code = "from asr_lstm.lstm.kernels import build; build.library()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(fresh.parent), "CXX": str(compiler)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    (left,) = fresh.iterdir()
    assert left.is_dir()
    assert loaded().answer() == 42
    assert left.exists()  # as it would be where that process still ran
    fresh.joinpath(next(path.name for path in fresh.glob("*.so"))).unlink()
    os.utime(left, (0, 0))
    assert loaded().answer() == 42
    assert [path.suffix for path in fresh.iterdir()] == [".so"]


@needs_compiler
def test_a_damaged_library_is_made_anew(fresh: Path, copied: Path) -> None:
    fresh.mkdir()
    build._compiled(shutil.which("g++") or shutil.which("clang++") or "").write_bytes(b"not a library")
    assert loaded().answer() == 42


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="folders without permission to write")
def test_a_cache_that_cannot_be_written_is_done_without(fresh: Path, copied: Path) -> None:
    fresh.parent.joinpath("asr_lstm").write_text("a file where the folder should be")
    assert loaded().answer() == 42


@needs_compiler
def test_it_compiles_for_lesser_processors_and_computes_the_same(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without bfloat16 products gates are still kept in it; with eight lanes instead of sixteen all sums change."""
    if os.uname().machine != "x86_64":
        pytest.skip("these are flags of x86 compilers")
    monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, "-march=x86-64-v3", "-O1"))
    torch.manual_seed(0)
    stack = VariationalLSTM(5, 37, layers=2, state_dropout=0.2, zoneout_cell=0.1, step_dropout=0.1)
    inputs, lengths = torch.randn(14, 9, 5), torch.randint(1, 10, (14,)).clamp(min=1)
    lengths[3] = 9
    outcomes = []
    for lesser in (True, False):
        if lesser:
            library = loaded()
            assert not library.lstm_multiplies_bfloat16()
        else:
            monkeypatch.setenv("ASR_LSTM_KERNEL", "portable")
            build.library.cache_clear()
        for low in (False, True):
            stack.zero_grad()
            torch.manual_seed(4)
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                outputs = stack(inputs, lengths)
            outputs.square().sum().backward()
            gradients = [parameter.grad.flatten() for parameter in stack.parameters()]  # type: ignore[union-attr]
            outcomes.append(torch.cat([outputs.detach().flatten(), *gradients]))
    exact, rounded, expected, portable = outcomes
    torch.testing.assert_close(exact, expected, rtol=1e-4, atol=1e-5)
    assert (rounded - expected).norm() < 0.02 * expected.norm()
    assert (rounded - portable).norm() < 0.02 * expected.norm()


@needs_compiler
def test_tiles_compute_what_vectors_do(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both multiply the same bfloat16 numbers and sum in float32: only the order of the sums differs."""
    if not loaded().lstm_has_tiles():
        pytest.skip("this processor multiplies no tiles of bfloat16, or this process may not use them")
    by_tiles = bfloat16_outcomes()
    for without in ("-mno-amx-bf16", "-DASR_LSTM_TILE_DATA=63"):  # not compiled in, and refused by the system
        monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, without))
        assert not loaded().lstm_has_tiles()
        for size, tiles, vectors in zip(OUTCOME_SIZES, by_tiles, bfloat16_outcomes(), strict=True):
            # A number in the middle of two of bfloat16 may go either way; torch rounds gradients of weights to it too.
            assert (tiles - vectors).norm() < 5e-3 * vectors.norm(), size
        monkeypatch.setattr(build, "_FLAGS", build._FLAGS[:-1])


# Batches of a block of rows or less, of two blocks, and of more with a rest; units of one tile and of several.
OUTCOME_SIZES = [(batch, hidden) for batch in (1, 15, 17, 41) for hidden in (16, 37, 70)]


def bfloat16_outcomes() -> list[torch.Tensor]:
    """Outputs and all gradients of two layers, for each of the sizes."""
    outcomes = []
    for batch, hidden in OUTCOME_SIZES:
        torch.manual_seed(0)
        stack = VariationalLSTM(5, hidden, layers=2, state_dropout=0.2, zoneout_cell=0.1)
        inputs, lengths = torch.randn(batch, 9, 5), torch.randint(1, 10, (batch,))
        lengths[batch // 2] = 9
        with torch.autocast("cpu", torch.bfloat16):
            outputs = stack(inputs, lengths)
        (outputs * torch.randn(outputs.shape)).sum().backward()
        gradients = [parameter.grad.flatten() for parameter in stack.parameters()]  # type: ignore[union-attr]
        outcomes.append(torch.cat([outputs.detach().flatten(), *gradients]))
    return outcomes
