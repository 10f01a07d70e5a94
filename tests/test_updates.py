"""Gradients of an update: the same however its batches are cut."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_training as small
import torch

from asr_lstm.augment import AugmentConfig, SpecAugment
from asr_lstm.batching import Batch, Draw, collate
from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.loss import ctc_losses, training_losses
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.schedule import make_optimiser
from asr_lstm.updates import GradientSum, halves, ran_out_of_memory, split_if_need_be

ALLOCATOR = RuntimeError(
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)
OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ALLOCATOR]


def batch_of(count: int) -> Batch:
    _, data = small.make()
    return collate([data.train_set[Draw(index, index)] for index in range(count)])


def test_halves_hold_the_same_utterances_with_less_padding() -> None:
    batch = batch_of(7)
    parts = halves(batch)
    assert [len(part) for part in parts] == [3, 4]
    assert torch.cat([part.targets for part in parts]).equal(batch.targets)
    assert torch.cat([part.indices for part in parts]).equal(batch.indices)
    assert torch.cat([part.seeds for part in parts]).equal(batch.seeds)
    row = 0
    for part in parts:
        assert part.inputs.shape[1] == part.lengths.max()
        assert len(part.targets) == part.target_lengths.sum()
        for inputs, length in zip(part.inputs, part.lengths, strict=True):
            assert inputs[:length].equal(batch.inputs[row][: batch.lengths[row]])
            row += 1


ENCODERS = {
    "plain": {},
    "convolution": {"convolution": 2, "convolution_blocks": 1},
    "normalised cell": {"cell_norm": True},
    "projection": {"projection": 3},
}


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_update_is_that_of_backward_and_of_adam_written_out(encoder: str, bfloat16: bool) -> None:
    """Autograd gives some gradients in an order of memory that is not their parameter's; `Tensor.backward` copies
    them, and torch's fused optimisers read them wrong where nobody did."""
    torch.manual_seed(1)
    config = EncoderConfig(layers=2, hidden=6, layer_dropout=0.0, state_dropout=0.0, **ENCODERS[encoder])
    model = Recogniser(FeatureConfig(kind="frames", dims=8, stack=2), config, units=4)
    inputs, lengths = torch.randn(3, 24, 8), torch.tensor([24, 11, 17])
    batch = replace(batch_of(3), inputs=inputs, lengths=lengths)
    plain, parameters = copy.deepcopy(model), list(model.parameters())

    def losses(module: Recogniser) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return training_losses(module, batch)

    losses(plain).sum().backward()
    total = GradientSum(parameters)
    total.add(batch, losses(model))
    for parameter, gradient in zip(parameters, total.gradients, strict=True):
        parameter.grad = gradient
    make_optimiser(model, learning_rate=0.01, weight_decay=0.1).step()
    written_out = make_optimiser(plain, learning_rate=0.01, weight_decay=0.1)
    for group in written_out.param_groups:
        group["fused"] = False
    written_out.step()
    for (name, parameter), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-6, msg=f"{name} is another")


TWO_VIEWS = {"intermediate": 0.3, "consistency": 0.2}


@pytest.mark.parametrize("options", [{}, TWO_VIEWS], ids=["plain", "two_views"])
@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_gives_the_same_gradients_in_parts(
    error: Exception, options: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    task, _ = small.make()
    task.model.spec_augment = SpecAugment(AugmentConfig(time_share=0.5), bands=4, frame_seconds=0.04)
    batch = batch_of(7)
    parameters = list(task.model.parameters())

    def gradients(most: int) -> tuple[list[torch.Tensor], torch.Tensor, list[int]]:
        total, sizes = GradientSum(parameters), []

        def step(part: Batch) -> None:
            losses = training_losses(task.model, part, **options)
            sizes.append(len(part))
            if len(part) > most:  # half-way through the backward pass
                losses.register_hook(lambda gradient: raise_(error))
            total.add(part, losses)

        split_if_need_be(step, batch, name=str)
        return *total.over_processes(), sizes

    whole, counts, _ = gradients(most=7)
    parts, counts_in_parts, sizes = gradients(most=2)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    assert torch.allclose(counts, counts_in_parts)
    for left, right in zip(whole, parts, strict=True):
        assert torch.allclose(left, right, atol=1e-5)
    assert caplog.text.count("taken in two halves") == 3


def raise_(error: Exception) -> Any:
    raise error


def test_an_utterance_that_does_not_fit_alone_is_named() -> None:
    with pytest.raises(DataError, match=r"^nine: memory does not suffice .*recompute"):
        split_if_need_be(lambda batch: raise_(MemoryError()), batch_of(1), name=lambda index: "nine")


def test_other_errors_pass() -> None:
    assert not ran_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="multiplied"):
        split_if_need_be(lambda batch: raise_(RuntimeError("multiplied")), batch_of(2), name=str)


def test_training_goes_on_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = small.train(*small.make())
    task, data = small.make()
    outputs = task.model.training_outputs

    def small_memory(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return outputs(inputs, *args, **kwargs)

    monkeypatch.setattr(task.model, "training_outputs", small_memory)
    assert small.train(task, data).losses == pytest.approx(undisturbed.losses, rel=1e-4)


def test_accumulated_batches_count_by_their_units(tmp_path: Path) -> None:
    task, _ = small.make()
    batch = batch_of(6)
    parameters = list(task.model.parameters())
    total = GradientSum(parameters)
    logits, lengths = task.model(batch.inputs, batch.lengths)
    losses = ctc_losses(logits, lengths, batch.targets, batch.target_lengths)
    (losses.sum() / batch.target_lengths.sum()).backward(retain_graph=True)
    for part in halves(batch):
        part_losses = ctc_losses(*task.model(part.inputs, part.lengths), part.targets, part.target_lengths)
        total.add(part, part_losses)
    gradients, (loss, units, _, _) = total.over_processes()
    assert float(loss / units) == pytest.approx(float(losses.detach().sum()) / len(batch.targets), rel=1e-5)
    for gradient, parameter in zip(gradients, parameters, strict=True):
        assert torch.allclose(gradient / units, parameter.grad, atol=1e-6)
