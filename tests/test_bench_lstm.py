from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "bench_lstm.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_lstm", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_gives_medians_and_ratios(bench: ModuleType) -> None:
    table = bench.format_table({bench.OURS: [2.0, 1.0, 9.0], bench.PACKED: [12.0], bench.DENSE: [1.5]})
    rows = [line.split()[-3:] for line in table.splitlines()[1:]]
    assert rows == [["2.000", "6.00", "0.75"], ["12.000", "1.00", "0.12"], ["1.500", "8.00", "1.00"]]


def test_each_round_times_every_runner_after_one_that_does_not_count(bench: ModuleType) -> None:
    calls: list[str] = []

    def runner(name: str) -> object:
        def run(inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            return inputs * 2

        return run

    inputs, lengths = torch.zeros(2, 3, 4), torch.tensor([3, 2])
    seconds = bench.compare({"a": runner("a"), "b": runner("b")}, inputs, lengths, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_what_is_compared_is_the_same_work(bench: ModuleType) -> None:
    runners = bench.make_runners(input_size=5, hidden=4, layers=2, device="cpu")
    inputs, lengths = torch.randn(3, 6, 5), torch.tensor([6, 4, 1])
    assert {tuple(run(inputs, lengths).shape) for run in runners.values()} == {(3, 6, 8)}


def test_the_command_prints_every_row_and_the_machine(
    bench: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"layers": 1, "hidden": 3, "input": 2, "batch": 2, "frames": 5, "rounds": 1}
    bench.main([f"--{name}={value}" for name, value in sizes.items()])
    printed = capsys.readouterr().out
    assert all(
        name in printed for name in (bench.OURS, bench.PACKED, bench.DENSE, f"torch {torch.__version__}")
    )
    assert "1 layers of 3 a direction, input 2, batch 2, 5 frames" in printed


def test_a_size_of_nothing_is_refused(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(["--rounds", "0"])
    assert caught.value.code == 2
    assert "--rounds: must be at least 1, not 0" in capsys.readouterr().err
