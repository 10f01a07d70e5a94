"""The C++ time loops against the portable ones, and what happens where they cannot be had."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import native, plan_packing, portable

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler on this machine"
)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No library loaded yet, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    native._library.cache_clear()
    yield tmp_path / "asr_lstm"
    native._library.cache_clear()


def problem(batch: int, frames: int, hidden: int, directions: int, *, masked: bool) -> dict[str, object]:
    generator = torch.Generator().manual_seed(batch + frames + hidden)
    lengths = torch.randint(1, frames + 1, (batch,), generator=generator)
    lengths[0] = frames
    plan = plan_packing(lengths, frames=frames, directions=directions)
    weight_hh = torch.randn(directions, 4 * hidden, hidden, generator=generator) / hidden**0.5
    mask = None
    if masked:
        mask = (torch.rand(directions, batch, hidden, generator=generator) > 0.3).float() / 0.7
    return {"plan": plan, "weight_hh": weight_hh, "mask": mask}


def doubled(arguments: dict[str, object]) -> dict[str, object]:
    return {name: value.double() if isinstance(value, Tensor) else value for name, value in arguments.items()}


# Sizes below, at and beyond the vector lanes (8 or 16), the panel (16 or 32) and the row block (6 or 12).
@needs_compiler
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("batch", "frames", "hidden", "directions"),
    [(1, 1, 1, 1), (5, 9, 7, 2), (16, 12, 64, 2), (3, 5, 16, 1), (13, 20, 33, 2), (41, 4, 20, 2)],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_native_loops_equal_the_portable_ones_in_double(
    batch: int, frames: int, hidden: int, directions: int, masked: bool, threads: int
) -> None:
    arguments = problem(batch, frames, hidden, directions, masked=masked)
    rows = sum(arguments["plan"].active)  # type: ignore[attr-defined]
    gates = 2 * torch.randn(rows, directions, 4 * hidden, generator=torch.Generator().manual_seed(1))
    grad = torch.randn(rows, directions, hidden, generator=torch.Generator().manual_seed(2))
    assert native.usable(gates)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = gates.clone()
        cells, states = native.through_time(ours, **arguments)  # type: ignore[arg-type]
        grad_gates = native.back_through_time(grad.clone(), gates=ours, cells=cells, **arguments)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)
    exact = gates.double()
    exact_cells, exact_states = portable.through_time(exact, **doubled(arguments))  # type: ignore[arg-type]
    exact_grad = portable.back_through_time(
        grad.double(),
        gates=exact,
        cells=exact_cells,
        **doubled(arguments),  # type: ignore[arg-type]
    )
    for value, expected in (
        (ours, exact),
        (cells, exact_cells),
        (states, exact_states),
        (grad_gates, exact_grad),
    ):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=2e-6)


@needs_compiler
def test_saturated_gates_stay_finite() -> None:
    arguments = problem(2, 3, 8, 1, masked=False)
    rows = sum(arguments["plan"].active)  # type: ignore[attr-defined]
    for huge in (1e4, -1e4, 3e38, -3e38):
        gates = torch.full((rows, 1, 32), huge)
        cells, states = native.through_time(gates, **arguments)  # type: ignore[arg-type]
        grad = native.back_through_time(torch.ones(rows, 1, 8), gates=gates, cells=cells, **arguments)  # type: ignore[arg-type]
        for value in (gates, cells, states, grad):
            assert bool(value.isfinite().all())
        assert float(gates[:, :, :8].mean()) == pytest.approx(1.0 if huge > 0 else 0.0, abs=1e-6)
        assert float(gates[:, :, 16:24].mean()) == pytest.approx(1.0 if huge > 0 else -1.0, abs=1e-6)


def test_the_layer_gives_the_same_with_either_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    layer = VariationalLSTM(10, 24, layers=2, state_dropout=0.2, layer_dropout=0.2)
    inputs, lengths = torch.randn(6, 30, 10), torch.tensor([30, 4, 17, 30, 1, 22])
    outcomes = []
    for use_native in (True, False):
        if not use_native:
            monkeypatch.setattr(native, "usable", lambda *tensors: False)
        layer.zero_grad()
        torch.manual_seed(4)
        outputs = layer(inputs, lengths)
        outputs.square().sum().backward()
        outcomes.append([outputs.detach(), *[parameter.grad.clone() for parameter in layer.parameters()]])
    for fast, plain in zip(*outcomes, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_double_precision_is_left_to_the_portable_kernel() -> None:
    assert not native.usable(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("compiler", ["absent-compiler", "false"])
def test_without_a_working_compiler_one_line_is_logged_and_torch_serves(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        layer = VariationalLSTM(4, 8)
        for _ in range(2):
            layer(torch.zeros(1, 3, 4), torch.tensor([3])).sum().backward()
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


def test_the_environment_keeps_it_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_LSTM_KERNEL", "portable")
    assert not native.usable(torch.zeros(1))
    assert not fresh.exists()


@needs_compiler
def test_it_is_compiled_once_and_found_again(fresh: Path) -> None:
    assert native.usable(torch.zeros(1))
    (library,) = fresh.iterdir()
    written = library.stat().st_mtime_ns
    native._library.cache_clear()
    assert native.usable(torch.zeros(1))
    assert [path.stat().st_mtime_ns for path in fresh.iterdir()] == [written]


@needs_compiler
def test_two_processes_may_compile_at_once(fresh: Path) -> None:
    code = "import torch; from asr_lstm.lstm.kernels import native; print(native.usable(torch.zeros(1)))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(fresh.parent)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["True", "True"]
    assert [path.suffix for path in fresh.iterdir()] == [".so"]


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="folders without permission to write")
def test_a_cache_that_cannot_be_written_is_done_without(fresh: Path) -> None:
    fresh.parent.joinpath("asr_lstm").write_text("a file where the folder should be")
    assert native.usable(torch.zeros(1))
