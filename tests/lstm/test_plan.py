from __future__ import annotations

import pytest
import torch

from asr_lstm.lstm.kernels import plan_packing, plan_single_step
from asr_lstm.lstm.kernels.rows import drop_numbers, mask_rows, pack, put_rows, take_rows, unpack

# Unsorted, with ties, a single frame and a full one.
LENGTHS = [4, 9, 1, 9, 6, 1, 7]
FRAMES = 9


def test_a_plan_meets_each_valid_frame_once_and_never_padding() -> None:
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES + 2)
    valid = [row * (FRAMES + 2) + frame for row, length in enumerate(LENGTHS) for frame in range(length)]
    assert sorted(plan.frame.tolist()) == valid
    assert plan.active == [sum(length > step for length in LENGTHS) for step in range(FRAMES)]
    assert plan.starts.tolist() == [sum(plan.active[:step]) for step in range(FRAMES + 1)]
    assert [LENGTHS[place] for place in plan.order.tolist()] == sorted(LENGTHS, reverse=True)
    assert plan.lengths.tolist() == sorted(LENGTHS, reverse=True)
    assert plan.order[plan.rank].tolist() == list(range(7))


def test_its_tables_say_where_a_row_stands() -> None:
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    places = list(zip(plan.sequence.tolist(), plan.step.tolist(), strict=True))
    row_of = {place: row for row, place in enumerate(places)}
    for row, (sequence, step) in enumerate(places):
        length = int(plan.lengths[sequence])
        assert int(plan.frame[row]) == int(plan.order[sequence]) * FRAMES + step
        assert int(plan.mirror[row]) == row_of[sequence, length - 1 - step]
        before = sequence if step == 0 else plan.batch + row_of[sequence, step - 1]
        assert int(plan.previous[row]) == before
    assert plan.final.tolist() == [
        row_of[place, int(length) - 1] for place, length in enumerate(plan.lengths)
    ]


@pytest.mark.parametrize("factor", [1, 2, 3, 20])
def test_a_reduced_plan_keeps_the_order(factor: int) -> None:
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    reduced = plan.reduced(factor)
    assert torch.equal(reduced.order, plan.order)
    assert reduced.frames == -(-FRAMES // factor)
    assert reduced.lengths.tolist() == [-(-length // factor) for length in plan.lengths.tolist()]
    whole = torch.arange(7 * reduced.frames).view(7, reduced.frames, 1)
    for place, rows in enumerate(unpack(pack(whole, reduced), reduced)):
        length = -(-LENGTHS[place] // factor)
        assert rows[:length, 0].tolist() == whole[place, :length, 0].tolist()


def test_a_single_step_is_the_plan_it_stands_for_and_is_kept() -> None:
    plan, expected = plan_single_step(5, torch.device("cpu")), plan_packing(torch.ones(5).long(), frames=1)
    assert plan is plan_single_step(5, torch.device("cpu"))
    assert plan.trivial
    for name in (
        "order",
        "frame",
        "sequence",
        "step",
        "starts",
        "lengths",
        "rank",
        "mirror",
        "previous",
        "final",
    ):
        assert torch.equal(getattr(plan, name), getattr(expected, name)), name


def test_one_frame_of_sequences_in_another_order_is_not_trivial() -> None:
    """As after a time reduction: the longest was not the first."""
    reduced = plan_packing(torch.tensor([1, 2]), frames=2).reduced(2)
    assert reduced.frames == 1
    assert not reduced.trivial
    inputs = torch.tensor([[[1.0]], [[2.0]]])
    assert pack(inputs, reduced).tolist() == [[2.0], [1.0]]
    assert torch.equal(unpack(pack(inputs, reduced), reduced), inputs)


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        (torch.tensor([], dtype=torch.long), "non-empty vector"),
        (torch.tensor([[3]]), "non-empty vector"),
        (torch.tensor(3), "non-empty vector"),
        (torch.tensor([3, 0]), r"1 \.\. 5, not 0 \.\. 3"),
        (torch.tensor([-1, 2]), r"1 \.\. 5, not -1 \.\. 2"),
        (torch.tensor([3, 6]), r"1 \.\. 5, not 3 \.\. 6"),
        (torch.tensor([3.0]), "integers"),
    ],
)
def test_impossible_lengths_are_refused(lengths: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"^lengths must .*{complaint}"):
        plan_packing(lengths, frames=5)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_gradients_of_packing_unpacking_masks_and_drops(dtype: torch.dtype) -> None:
    """Against what autograd makes of indexing and multiplying."""
    plan = plan_packing(torch.tensor(LENGTHS), frames=FRAMES)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, FRAMES, 3, generator=generator, dtype=dtype)
    mask = torch.randn(7, 3, generator=generator, dtype=dtype)
    ours, plain = values.clone().requires_grad_(), values.clone().requires_grad_()
    outputs = unpack(mask_rows(pack(ours, plan), mask, plan.sequence), plan)
    valid = (torch.arange(FRAMES) < torch.tensor(LENGTHS)[:, None])[..., None]
    expected = plain * mask[plan.rank][:, None] * valid
    torch.testing.assert_close(outputs, expected)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)

    rows = values[0].clone().requires_grad_()
    dropped = drop_numbers(rows, 3, 0.5)
    dropped.sum().backward()
    assert rows.grad is not None
    torch.testing.assert_close(dropped, rows * rows.grad)
    assert {round(number, 4) for number in rows.grad.flatten().tolist()} == {0.0, 2.0}


def test_take_and_put_are_each_others_backward_twice_over() -> None:
    index = torch.tensor([4, 0, 2])
    rows = torch.randn(5, 2, dtype=torch.double, requires_grad=True)
    few = torch.randn(3, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: take_rows(rows, index), rows)
    assert torch.autograd.gradgradcheck(lambda rows: take_rows(rows, index).square(), rows)
    assert torch.autograd.gradcheck(lambda rows: put_rows(rows, index, size=6), few)
