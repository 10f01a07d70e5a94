"""The C++ kernel against torch in double precision."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from lstm_reference import NATIVE, VARIANTS, by_kernel, converted, leaves, make_arguments, make_inputs, pull
from torch import Tensor

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import native
from asr_lstm.lstm.kernels.build import library, thread_pool

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler on this machine"
)

# Below, at and beyond the vector lanes (8 or 16), the panel (16 or 32), the row block (6 or 12), odd and even.
SIZES = [(1, 1, 1, 1), (5, 9, 7, 2), (16, 12, 64, 2), (3, 5, 16, 1), (13, 20, 33, 2), (41, 4, 20, 2)]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lengths_of(batch: int, frames: int) -> list[int]:
    generator = torch.Generator().manual_seed(batch + frames)
    lengths = torch.randint(1, frames + 1, (batch,), generator=generator)
    lengths[batch // 2] = frames
    return lengths.tolist()


def run(
    variant: str, batch: int, frames: int, hidden: int, directions: int, *, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Outputs, final states and all gradients by name."""
    arguments = make_arguments(VARIANTS[variant], directions=directions, batch=batch, hidden=hidden)
    given, tensors = leaves(converted(arguments, dtype))
    tensors["inputs"] = make_inputs(batch, frames).to(dtype).requires_grad_()
    outcome = by_kernel(tensors["inputs"], lengths_of(batch, frames), given)
    pull(outcome).backward()
    found = dict(zip(("outputs", "states", "cells"), outcome, strict=True))
    return found | {f"gradient of {name}": value.grad for name, value in tensors.items()}  # type: ignore[misc]


@needs_compiler
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("batch", "frames", "hidden", "directions"), SIZES)
@pytest.mark.parametrize("variant", NATIVE)
def test_every_variant_equals_torch_in_double(
    variant: str, batch: int, frames: int, hidden: int, directions: int, count: int
) -> None:
    assert native.usable(torch.zeros(1))
    with threads(count):
        ours = run(variant, batch, frames, hidden, directions, dtype=torch.float)
    exact = run(variant, batch, frames, hidden, directions, dtype=torch.double)
    for name, value in ours.items():
        scale = max(1.0, float(exact[name].detach().abs().max()))
        torch.testing.assert_close(
            value.double() / scale,
            exact[name] / scale,
            rtol=1e-5,
            atol=1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@needs_compiler
@pytest.mark.parametrize(("batch", "frames", "hidden", "directions"), [(5, 9, 7, 2), (16, 12, 64, 2)])
@pytest.mark.parametrize("variant", NATIVE)
def test_bfloat16_stays_within_its_rounding(
    variant: str, batch: int, frames: int, hidden: int, directions: int
) -> None:
    with torch.autocast("cpu", torch.bfloat16), threads(3):
        ours = run(variant, batch, frames, hidden, directions, dtype=torch.float)
    exact = run(variant, batch, frames, hidden, directions, dtype=torch.double)
    for name, value in ours.items():
        assert value.dtype == torch.float, name
        error = (value.double() - exact[name]).norm() / exact[name].norm()
        assert 1e-5 < error < 0.03, f"{name}: {error}"


@needs_compiler
def test_bfloat16_gradients_of_the_usual_size_are_within_a_hundredth() -> None:
    torch.manual_seed(0)
    stack = VariationalLSTM(40, 128, layers=3)
    inputs, lengths = torch.randn(6, 60, 40), torch.tensor([60, 31, 45, 60, 38, 52])
    pulled = torch.randn(6, 60, 256)
    found = []
    for low in (False, True):
        stack.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            outputs = stack(inputs, lengths)
        (outputs * pulled).sum().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in stack.parameters()]))  # type: ignore[union-attr]
    exact, low = found
    assert 1e-4 < float((low - exact).norm() / exact.norm()) < 0.01


@needs_compiler
def test_saturated_gates_stay_finite() -> None:
    for huge in (1e4, -1e4, 3e38, -3e38):
        given, tensors = leaves(converted(make_arguments((), directions=1, batch=2, hidden=8), torch.float))
        with torch.no_grad():
            tensors["bias"].fill_(huge)
        outputs, _, cells = by_kernel(make_inputs(2, 3).float(), [3, 2], given)
        (outputs.sum() + cells.sum()).backward()
        assert all(bool(value.grad.isfinite().all()) for value in tensors.values())  # type: ignore[union-attr]
        # All gates open: the cell counts the steps. All shut: it is 0.
        expected = torch.tensor([[3.0] * 8, [2.0] * 8]) if huge > 0 else torch.zeros(2, 8)
        torch.testing.assert_close(cells[0], expected, rtol=0, atol=1e-5)


@needs_compiler
def test_the_stack_gives_the_same_with_either_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    stack = VariationalLSTM(
        10, 24, layers=2, state_dropout=0.2, layer_dropout=0.2, zoneout_cell=0.2, candidate_dropout=0.1
    )
    inputs, lengths = torch.randn(6, 30, 10), torch.tensor([30, 4, 17, 30, 1, 22])
    outcomes = []
    for use_native in (True, False):
        if not use_native:
            monkeypatch.setattr(native, "usable", lambda *tensors: False)
        stack.zero_grad()
        torch.manual_seed(4)
        outputs = stack(inputs, lengths)
        outputs.square().sum().backward()
        outcomes.append([outputs.detach(), *(parameter.grad.clone() for parameter in stack.parameters())])  # type: ignore[union-attr]
    for fast, plain in zip(*outcomes, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_double_precision_is_left_to_torch() -> None:
    assert not native.usable(torch.zeros(1, dtype=torch.float64))


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 5), (13, 33, 7), (97, 65, 1030), (200, 31, 513)])
@pytest.mark.parametrize("sides", ["rows, rows", "rows, columns", "columns, rows", "columns, columns"])
def test_products_equal_torch_however_the_sides_lie(shape: tuple[int, int, int], sides: str) -> None:
    rows, columns, depth = shape
    generator = torch.Generator().manual_seed(depth)

    def side(high: int, wide: int, *, by_columns: bool) -> Tensor:
        numbers = torch.randn(high * wide, generator=generator)
        return numbers.view(wide, high).t() if by_columns else numbers.view(high, wide)

    left, right = sides.split(", ")
    one = side(rows, depth, by_columns=left == "columns")
    other = side(depth, columns, by_columns=right == "columns")
    whole = torch.full((rows, columns + 3), 7.0)
    with threads(3):
        native._product(one, other, out=whole[:, :columns])
    torch.testing.assert_close(whole[:, :columns], one @ other, rtol=1e-4, atol=1e-4)
    assert bool((whole[:, columns:] == 7).all())


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 5), (17, 33, 7), (97, 70, 1030), (600, 31, 513)])
@pytest.mark.parametrize("kinds", list(itertools.product((torch.float32, torch.bfloat16), repeat=2)))
@pytest.mark.parametrize("sides", list(itertools.product((False, True), repeat=2)))
def test_bfloat16_products_equal_double_however_the_sides_lie(
    shape: tuple[int, int, int], kinds: tuple[torch.dtype, torch.dtype], sides: tuple[bool, bool]
) -> None:
    """In tiles where the processor has them, else torch's; the right side and what comes out may be float32."""
    rows, columns, depth = shape
    generator = torch.Generator().manual_seed(depth)

    def side(high: int, wide: int, *, by_columns: bool) -> Tensor:
        numbers = torch.randn(high * wide, generator=generator).bfloat16()
        return numbers.view(wide, high).t() if by_columns else numbers.view(high, wide)

    one = side(rows, depth, by_columns=sides[0])
    other = side(depth, columns, by_columns=sides[1])
    whole = torch.full((rows + 2, columns + 3), 7.0, dtype=kinds[1])
    with threads(3):
        native._product(one, other.to(kinds[0]), out=whole[:rows, :columns])
    found, exact = whole[:rows, :columns].double(), one.double() @ other.double()
    rounding = 2e-2 if kinds[1] == torch.bfloat16 or not library().lstm_has_tiles() else 1e-4  # type: ignore[union-attr]
    torch.testing.assert_close(found, exact, rtol=rounding / 4, atol=rounding)
    assert bool((whole[:, columns:] == 7).all())
    assert bool((whole[rows:] == 7).all())


@needs_compiler
def test_masks_over_rows() -> None:
    rows, mask = torch.randn(700, 37), torch.randn(5, 37)
    sequence = torch.randint(5, (700,))
    assert torch.equal(native.mask_rows(rows, mask, sequence), rows * mask[sequence])


@needs_compiler
def test_without_torchs_pool_threads_of_our_own_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with threads(3):
        pooled = run("all that is native", 13, 20, 33, 2, dtype=torch.float)
        monkeypatch.setattr(native, "thread_pool", lambda: None)
        own = run("all that is native", 13, 20, 33, 2, dtype=torch.float)
    assert library() is not None
    assert isinstance(thread_pool(), int | None)
    for name, value in pooled.items():
        assert torch.equal(value, own[name]), name
