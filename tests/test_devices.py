"""That the tensors of each operation stand on one device, and what makes the CPU wait: on a pretended GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, MixedDevices, OnGPU, PretendedGPU, numbers, to_gpu
from torch import Tensor

from asr_lstm.augment import AugmentConfig
from asr_lstm.averaging import WeightAverage
from asr_lstm.batching import Batch, Draw, Example, collate
from asr_lstm.decoding.align import align_units
from asr_lstm.decoding.greedy import greedy_decode, greedy_units
from asr_lstm.decoding.montecarlo import sample_log_probs
from asr_lstm.faults import to_blame
from asr_lstm.features import FeatureConfig
from asr_lstm.gradients import gradient_reach, norms_by_layer
from asr_lstm.judging import DevShare
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.scores import score_lines, score_stream
from asr_lstm.loss import training_losses
from asr_lstm.lstm.kernels import dense, plan_single_step, triton_layer
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.model_files import read_weights, write_weights
from asr_lstm.schedule import make_optimiser
from asr_lstm.units import CharacterUnits
from asr_lstm.updates import GradientSum, halves

UNITS = CharacterUnits.from_texts(["abcdef"])
FEATURES = FeatureConfig(rate=8000, mels=16, stack=2)
TARGETS = [(1200, [1, 2]), (2400, [3, 4, 5]), (1800, [6, 2])]  # samples and units of each utterance
ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {"state_dropout": 0.0},
    "weight drop": {"state_dropout": 0.0, "weight_dropout": 0.2, "step_dropout": 0.2},
    "state dropout": {},
    "zoneout and peepholes": {"zoneout_cell": 0.1, "candidate_dropout": 0.1, "peepholes": True},
    "normed cell with projection": {"cell_norm": True, "projection": 4},
    "reduced": {"time_reduction": (2,)},
    "reduced by taking, with a shortcut": {
        "time_reduction": (2,),
        "reduction": "take",
        "shortcut": "highway",
    },
    "convolution": {"convolution": 2},
}


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGPU]:
    """A GPU for which cuDNN's place is taken by the same function on the CPU; it has no Triton."""
    order = dense._order
    monkeypatch.setattr(dense, "_order", lambda *sizes: order(*sizes[:-1], torch.device("cpu")))
    monkeypatch.setattr(triton_layer, "capable", lambda weights: False)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    # The mode itself knows no tensors but torch's own.
    monkeypatch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())
    yield PretendedGPU()
    plan_single_step.cache_clear()


def make_model(**encoder: Any) -> Recogniser:
    torch.manual_seed(0)
    config = EncoderConfig(layers=2, hidden=8, **encoder)
    augment = AugmentConfig(vocal_tract=0.1)
    return Recogniser(FEATURES, config, units=len(UNITS), augment=augment)


def make_batch() -> Batch:
    noise = torch.randn(3, 2400, generator=torch.Generator().manual_seed(1)) / 10
    return collate(
        [
            Example(noise[index, :samples], units, Draw(index, index + 1))
            for index, (samples, units) in enumerate(TARGETS)
        ]
    )


def on_gpu() -> tuple[Recogniser, Batch]:
    model, batch = make_model(), make_batch()
    to_gpu(model)
    batch.inputs = batch.inputs.to("cuda")
    return model, batch


def test_a_pretended_gpu_refuses_what_a_real_one_would(pretended: PretendedGPU) -> None:
    with pretended:
        there = torch.arange(3.0, device="cuda")
        assert (there.device, there.is_cuda, (there + 1).device) == (GPU, True, GPU)
        assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]
        assert there[torch.tensor([2, 0])].cpu().tolist() == [2, 0]
        assert pretended.waits == ["tolist", "to the CPU"]
        for operation in (
            lambda: there + torch.arange(3.0),
            lambda: torch.arange(3)[there.long()],
            lambda: torch.stack([there, torch.zeros(3)]),
            there.numpy,
        ):
            with pytest.raises(MixedDevices):
                operation()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_training_finds_the_losses_and_gradients_of_the_cpu(
    pretended: PretendedGPU, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of dropout is drawn from one generator here, as a GPU would draw from its own."""

    def run(model: Recogniser, batch: Batch) -> list[Tensor]:
        torch.manual_seed(5)
        losses = training_losses(model, batch, consistency=0.2)
        return [losses, *torch.autograd.grad(losses.sum(), list(model.parameters()))]

    monkeypatch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
    expected = run(make_model(**ENCODERS[encoder]), make_batch())
    model, batch = make_model(**ENCODERS[encoder]), make_batch()
    with pretended:
        to_gpu(model)
        batch.inputs = batch.inputs.to("cuda")
        found = run(model, batch)
    assert pretended.waits == []
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, OnGPU)
        torch.testing.assert_close(numbers(one), other.detach(), rtol=1e-4, atol=1e-3)


def test_an_update_with_all_that_stands_beside_it(pretended: PretendedGPU, tmp_path: Path) -> None:
    with pretended:
        model, batch = on_gpu()
        weights = list(model.parameters())
        total, average = GradientSum(weights), WeightAverage(model, 0.9)
        for part in (batch, *halves(batch)):
            total.add(part, training_losses(model, part, intermediate=0.3, errors=0.5))
        gradients, totals = total.over_processes()
        assert totals.device == GPU
        assert totals.tolist()[1] == 14
        assert to_blame(total.indices, total.losses * torch.nan, gradients) == [0, 1, 2, 0, 1, 2]
        assert to_blame(total.indices, total.losses, gradients) == []
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        assert norms_by_layer((name, weight.grad) for name, weight in model.named_parameters())["head"] > 0
        before = [numbers(weight).clone() for weight in weights]
        make_optimiser(model, learning_rate=0.1, weight_decay=0.1).step()
        average.update()
        average.swap()
        assert {value.device for value in average.state_dict().values()} == {GPU}
        for name, reach in enumerate(gradient_reach(model, batch.inputs[:1, :1200], batch.lengths[:1])):
            assert (name, reach.device) == (name, GPU)
        average.swap()
        write_weights(tmp_path, model)
    copy = make_model()
    read_weights(tmp_path, copy)
    for weight, read, old in zip(weights, copy.parameters(), before, strict=True):
        assert torch.equal(numbers(weight), read.detach())
        assert not torch.equal(numbers(weight), old)


def test_ctc_is_computed_on_the_cpu_where_the_same_bits_are_asked_for(
    pretended: PretendedGPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one thing that the switch must do by itself: torch has no such backward pass of CTC on a GPU."""
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    expected = training_losses(make_model(state_dropout=0.0, layer_dropout=0.0), make_batch())
    with pretended:
        model, batch = make_model(state_dropout=0.0, layer_dropout=0.0), make_batch()
        to_gpu(model)
        batch.inputs = batch.inputs.to("cuda")
        losses = training_losses(model, batch)
        assert pretended.waits == ["to the CPU"]
        assert losses.device == GPU
    torch.testing.assert_close(numbers(losses), expected.detach(), rtol=1e-4, atol=1e-4)


def test_decoding_reads_logits_from_the_gpu(pretended: PretendedGPU) -> None:
    expected = make_model().eval()(make_batch().inputs, make_batch().lengths)[0]
    with pretended, torch.no_grad():
        model, batch = on_gpu()
        logits, lengths = model.eval()(batch.inputs, batch.lengths)
        torch.testing.assert_close(numbers(logits), expected.detach(), rtol=1e-4, atol=1e-5)
        assert greedy_decode(logits, lengths) == greedy_decode(numbers(logits), lengths)
        spans = [[span.unit for span in row] for row in greedy_units(logits, lengths)]
        assert spans == [[span.unit for span in row] for row in greedy_units(numbers(logits), lengths)]
        assert [span.unit for span in align_units(logits[1], [3, 4, 5])] == [3, 4, 5]
        share = DevShare()
        share.add(batch, logits, lengths, units=UNITS)
        assert (share.units, sorted(share.hypotheses)) == (7, [0, 1, 2])
        draws = sample_log_probs(model, batch.inputs, batch.lengths, samples=2)
        assert [row.shape[0] for row in draws] == [2, 2, 2]
        assert {row.device for row in draws} == {GPU}


def test_a_language_model(pretended: PretendedGPU) -> None:
    config = NetworkConfig(layers=2, hidden=8, embedding=6)
    torch.manual_seed(0)
    model = LanguageModel(config, units=9).eval()
    text = np.arange(40) % 9
    expected = score_stream(model, text), score_lines(model, [text[:7], text[:3]])
    with pretended:
        to_gpu(model)
        with torch.no_grad():
            found = score_stream.__wrapped__(model, text)  # without its inference mode
            lines = score_lines.__wrapped__(model, [text[:7], text[:3]])
        _, states = model(torch.ones(3, 1, dtype=torch.long, device="cuda"))
        assert states.select(torch.tensor([2, 0], device="cuda")).cells.device == GPU
        torch.testing.assert_close(numbers(found), expected[0], rtol=1e-4, atol=1e-5)
        for one, other in zip(lines, expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
