"""Kernels in Triton prove themselves before they are used, or do not serve."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from triton_compiled import make_call

from asr_lstm.lstm.kernels import portable, triton_launch, triton_layer, triton_proof
from asr_lstm.lstm.kernels.autograd import run_layer
from asr_lstm.lstm.kernels.call import Call, Leaves, Result
from asr_lstm.lstm.kernels.triton_launch import Launch
from asr_lstm.lstm.kernels.triton_proof import proved


@pytest.fixture(autouse=True)
def unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_proof, "_answers", {})


def right(call: Call, leaves: Leaves, rows: Tensor) -> Result:
    return run_layer(portable, call, leaves, rows)


def make(variant: str = "state mask", kind: torch.dtype = torch.float) -> tuple[Call, Leaves]:
    return make_call(variant, hidden=24, batch=5, kind=kind, device="cpu")


@pytest.mark.parametrize("kind", [torch.float, torch.bfloat16])
def test_what_gives_the_loops_results_is_asked_once(
    kind: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def run(*given: Any) -> Result:
        asked.append(given)
        return right(*given)

    state = torch.get_rng_state()
    with torch.inference_mode():  # as in evaluation
        assert proved("ours", run, *make(kind=kind))
    assert torch.equal(torch.get_rng_state(), state)
    assert proved("ours", run, *make(kind=kind))
    assert len(asked) == 1
    assert not caplog.messages
    # Another size of batch is the same kernel, another kind of layer is not.
    assert proved("ours", run, *make_call("state mask", hidden=24, batch=3, kind=kind, device="cpu"))
    assert len(asked) == 1
    assert proved("ours", run, *make("initial states", kind))
    assert len(asked) == 2


@pytest.mark.parametrize("part", ["outputs", "weight_hh", "states"])
def test_what_gives_others_is_named_and_not_used(part: str, caplog: pytest.LogCaptureFixture) -> None:
    def wrong(call: Call, leaves: Leaves, rows: Tensor) -> Result:
        if part == "outputs":
            result = right(call, leaves, rows)
            return result._replace(outputs=result.outputs * 1.01)
        # The value as it is, its gradient doubled.
        value = getattr(leaves, part)
        return right(call, leaves._replace(**{part: 2 * value - value.detach()}), rows)

    with caplog.at_level(logging.WARNING):
        assert not proved("theirs", wrong, *make())
    name = part if part == "outputs" else f"gradient of {part}"
    assert [message.endswith(f" in its {name}") for message in caplog.messages] == [True]
    assert not proved("theirs", right, *make())  # it has been asked


def test_a_layer_that_is_recomputed_on_the_way_back_asks_once() -> None:
    """torch.utils.checkpoint records what is saved meanwhile, of a proof too, and runs the layer again for it."""
    call, leaves = make()
    asked = []

    def layer(rows: Tensor) -> Tensor:
        asked.append(proved("recomputed", right, call, leaves))
        return right(call, leaves, rows).outputs

    rows = torch.randn(len(call.plan.frame), 40, requires_grad=True)
    outputs: Any = checkpoint(layer, rows, use_reentrant=False)
    outputs.sum().backward()
    assert rows.grad is not None
    assert asked == [True, True]


def test_to_run_out_of_memory_says_nothing_of_a_kernel() -> None:
    def raises(*given: Any) -> Result:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        proved("large", raises, *make())
    assert proved("large", right, *make())


def test_nan_is_wrong() -> None:
    def wrong(call: Call, leaves: Leaves, rows: Tensor) -> Result:
        result = right(call, leaves, rows)
        return result._replace(cells=result.cells * float("nan"))

    assert not proved("nan", wrong, *make())


def test_what_does_not_compile_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def raises(*given: Any) -> Result:
        raise RuntimeError("PassManager::run failed\nwith much more")

    with caplog.at_level(logging.WARNING):
        assert not proved("none", raises, *make())
    assert [message.endswith("it does not run (PassManager::run failed)") for message in caplog.messages] == [
        True
    ]


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        ({"persistent", "graphs", "steps"}, "persistent"),
        ({"graphs", "steps"}, "graphs"),
        ({"steps"}, "steps"),
        (set(), "None"),
    ],
)
def test_the_first_way_that_is_right_is_taken(
    good: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_launch, "_chip", lambda device: (132, 232448))
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    monkeypatch.setattr(triton_layer, "capable", lambda weights: True)

    def answer(launch: Launch, *given: Any, steps: int) -> bool:
        return str(launch) in good

    monkeypatch.setattr(triton_layer, "proved", answer)
    call, leaves = make(kind=torch.bfloat16)
    weights = SimpleNamespace(shape=(2, 2048, 512), device="cuda")
    leaves = leaves._replace(weight_hh=weights)  # type: ignore[arg-type]
    assert str(triton_layer.choose_launch(call, leaves)) == expected
    # What is asked for need not be proved: `bench_lstm.py` asks.
    monkeypatch.setenv("ASR_LSTM_KERNEL", "persistent")
    assert str(triton_layer.choose_launch(call, leaves)) == "persistent"
