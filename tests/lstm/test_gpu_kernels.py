"""The layer on a real GPU, whichever kernel runs it, against the equations of its cell on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lstm_reference import (
    FRAMES,
    LENGTHS,
    VARIANTS,
    Outcome,
    by_cell,
    by_kernel,
    converted,
    leaves,
    make_arguments,
    make_inputs,
    pull,
    tensors_of,
    with_tensors,
)
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import dense, lstm_layer, plan_packing, triton_layer
from asr_lstm.lstm.kernels.rows import pack, unpack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("exact_products"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
GPU = "cuda"
REPEATS = 100
# What cuDNN's choice of algorithm turns on: up to 128 and 192 units it has one of its own for small layers.
SIZES = [(64, 4, 40), (512, 8, 60)]  # hidden, batch, frames


def on_gpu(arguments: dict[str, Any]) -> dict[str, Any]:
    moved = with_tensors(arguments, {name: value.to(GPU) for name, value in tensors_of(arguments).items()})
    if "state_mask" in moved:
        moved["state_mask"] = moved["state_mask"].to(GPU)
    return moved


def by_gpu(inputs: Tensor, lengths: list[int], arguments: dict[str, Any]) -> Outcome:
    plan = plan_packing(torch.tensor(lengths), frames=inputs.shape[1], device=GPU)
    rows, (states, cells) = lstm_layer(pack(inputs, plan), plan=plan, **arguments)
    return unpack(rows, plan), states, cells


def compare(
    arguments: dict[str, Any],
    inputs: Tensor,
    lengths: list[int],
    *,
    dtype: torch.dtype,
    bfloat16: bool = False,
    exactly: Callable[[Tensor, list[int], dict[str, Any]], Outcome] = by_cell,
    close: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Outcome and gradients of the GPU in a type, and in float64 on the CPU, by name to `close`."""
    (one, ours), (other, reference) = leaves(on_gpu(converted(arguments, dtype))), leaves(arguments)
    ours["inputs"] = inputs.to(GPU, dtype).clone().requires_grad_()
    reference["inputs"] = inputs.clone().requires_grad_()
    with torch.autocast(GPU, torch.bfloat16, enabled=bfloat16):
        outcome = by_gpu(ours["inputs"], lengths, one)
    expected = exactly(reference["inputs"], lengths, other)
    for name, value, wanted in zip(("outputs", "states", "cells"), outcome, expected, strict=True):
        assert value.dtype == dtype
        close(name, value.cpu().double(), wanted)
    pull(tuple(value.cpu() for value in outcome)).backward()  # type: ignore[arg-type]
    pull(expected).backward()
    for name, value in ours.items():
        assert value.grad is not None, name
        assert reference[name].grad is not None, name
        close(f"gradient of {name}", value.grad.cpu().double(), reference[name].grad)  # type: ignore[arg-type]


def within(tolerance: float) -> Callable[[str, Tensor, Tensor], None]:
    def check(name: str, value: Tensor, wanted: Tensor) -> None:
        torch.testing.assert_close(
            value, wanted, rtol=0, atol=tolerance * max(1.0, float(wanted.abs().max())), msg=name
        )

    return check


def near(share: float) -> Callable[[str, Tensor, Tensor], None]:
    def check(name: str, value: Tensor, wanted: Tensor) -> None:
        assert (value - wanted).norm() < share * wanted.norm(), name

    return check


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_each_variant_is_its_cell_run_over_each_sequence(
    directions: int, variant: str, dtype: torch.dtype
) -> None:
    for lengths, frames in ((LENGTHS, FRAMES + 2), ([5], 5), ([1, 1, 1], 1)):
        arguments = make_arguments(VARIANTS[variant], directions=directions, batch=len(lengths))
        inputs = make_inputs(len(lengths), frames)
        tolerance = 1e-10 if dtype == torch.double else 2e-4
        compare(arguments, inputs, lengths, dtype=dtype, close=within(tolerance))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("variant", [name for name, parts in VARIANTS.items() if "norm" not in parts])
def test_autocast_rounds_no_more_than_bfloat16_does(directions: int, variant: str) -> None:
    arguments = make_arguments(VARIANTS[variant], directions=directions, batch=7)
    compare(arguments, make_inputs(7, FRAMES), LENGTHS, dtype=torch.float, bfloat16=True, close=near(0.05))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(("hidden", "batch", "frames"), SIZES)
@pytest.mark.parametrize("parts", [(), ("mask",), ("mask", "candidate", "zoneout", "peepholes")])
def test_sizes_of_real_layers(
    parts: tuple[str, ...], hidden: int, batch: int, frames: int, bfloat16: bool
) -> None:
    lengths = [frames - 7 * index % (frames // 2) for index in range(batch)]
    arguments = make_arguments(parts, directions=2, batch=batch, dims=24, hidden=hidden)
    inputs = make_inputs(batch, frames, 24)
    compare(
        arguments,
        inputs,
        lengths,
        dtype=torch.float,
        bfloat16=bfloat16,
        exactly=by_kernel,  # in plain torch; the equations would take half a minute
        close=near(0.1 if bfloat16 else 1e-4),
    )


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("parts", [(), ("mask",), ("mask", "zoneout", "peepholes")])
def test_the_same_bits_come_out_a_hundred_times_wherever_they_are_written(
    parts: tuple[str, ...], bfloat16: bool
) -> None:
    arguments = on_gpu(
        converted(make_arguments(parts, directions=2, batch=16, dims=128, hidden=128), torch.float)
    )
    inputs, lengths = make_inputs(16, 50, 128).to(GPU, torch.float), [50 - index for index in range(16)]

    def run() -> list[Tensor]:
        poison = torch.full((2**26,), torch.nan, device=GPU)  # freed, and then written to
        del poison
        given, tensors = leaves(arguments)
        with torch.autocast(GPU, torch.bfloat16, enabled=bfloat16):
            outcome = by_gpu(inputs, lengths, given)
        return [*outcome, *torch.autograd.grad(outcome[0].square().sum(), list(tensors.values()))]

    first = run()
    assert all(bool(value.isfinite().all()) for value in first)
    for _ in range(REPEATS):
        for one, other in zip(run(), first, strict=True):
            assert torch.equal(one, other)


def test_each_kernel_runs_what_it_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def note(module: Any, function: str, name: str) -> None:
        run = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *a, **k: (ran.append(name), run(*a, **k))[1])

    note(dense, "run_dense", "cuDNN")
    note(triton_layer, "forward", "Triton")
    for parts, name in (((), "cuDNN"), (("mask",), "Triton"), (("zoneout",), "Triton")):
        arguments = on_gpu(converted(make_arguments(parts, directions=2, batch=7), torch.float))
        for _ in range(2):  # the first time it must prove itself
            ran.clear()
            by_gpu(make_inputs(7, FRAMES).to(GPU, torch.float), LENGTHS, arguments)
        assert ran == [name]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_cudnn_finds_its_weights_where_it_wants_them(bfloat16: bool) -> None:
    """Else torch warns, and copies them at each call."""
    for directions, dims in ((1, 5), (2, 5), (2, 64)):
        arguments = on_gpu(
            converted(make_arguments((), directions=directions, batch=7, dims=dims, hidden=32), torch.float)
        )
        given, tensors = leaves(arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with torch.autocast(GPU, torch.bfloat16, enabled=bfloat16):
                outputs = by_gpu(make_inputs(7, FRAMES, dims).to(GPU, torch.float), LENGTHS, given)[0]
            outputs.sum().backward()
        assert all(value.grad is not None for value in tensors.values())


def test_a_stack_is_torchs_on_packed_sequences() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(20, 48, num_layers=3, bidirectional=True, batch_first=True).to(GPU)
    ours = VariationalLSTM.from_torch(lstm).to(GPU)
    inputs, lengths = torch.randn(6, 30, 20, device=GPU), torch.tensor([30, 12, 29, 1, 30, 7])
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]
    outputs = ours(inputs, lengths)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-5)
    gradient = torch.autograd.grad(outputs.square().sum(), first_weight(ours))[0]
    other = torch.autograd.grad(expected.square().sum(), lstm.weight_hh_l0)[0]
    torch.testing.assert_close(gradient[0], other, rtol=1e-3, atol=1e-3)


def first_weight(stack: VariationalLSTM) -> Tensor:
    weight: Tensor = stack.layers[0].weight_hh  # type: ignore[assignment]
    return weight


def test_padding_may_hold_anything() -> None:
    arguments = on_gpu(converted(make_arguments((), directions=2, batch=7), torch.float))
    padding = torch.arange(FRAMES) >= torch.tensor(LENGTHS)[:, None]
    found = []
    for filler in (0.0, torch.nan):
        inputs = make_inputs(7, FRAMES).float().masked_fill(padding[..., None], filler)
        found.append(by_gpu(inputs.to(GPU), LENGTHS, arguments))
    for clean, soiled in zip(*found, strict=True):
        assert torch.equal(clean, soiled)
