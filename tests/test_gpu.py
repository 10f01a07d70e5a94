"""What runs on a real GPU comes to what it comes to on the CPU: features, loss, training, resuming, decoding."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_training
import soundfile
import test_fit as small_fit
import torch
from torch import Tensor

from asr_lstm import progress
from asr_lstm.alignment import Alignment, align_manifest
from asr_lstm.augment import AugmentConfig
from asr_lstm.bundle import load_bundle
from asr_lstm.decoding.decoders import make_decoders
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.errors import TrainingInterrupted
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.inference import draw_log_probs
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.scores import score_lines, score_stream
from asr_lstm.lm_training.config import LMTrainingConfig
from asr_lstm.lm_training.fit import fit_language_model
from asr_lstm.loss import ctc_losses
from asr_lstm.manifest import Utterance
from asr_lstm.recognise import recognise, recognise_each
from asr_lstm.schedule import TrainingConfig, choose_precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation.*"),
]
GPU = "cuda"
ACCELERATOR = "gpu"
RATE = 8000  # of the tiny recogniser


def test_features_are_those_of_the_cpu() -> None:
    config = FeatureConfig(rate=8000, mels=40, floor_db=30.0)
    audio = torch.randn(4, 8000, generator=torch.Generator().manual_seed(1)) / 10
    lengths, seeds = torch.tensor([8000, 100, 5000, 7999]), torch.arange(4)
    found = []
    for device in ("cpu", GPU):
        front_end = make_front_end(config, vocal_tract=0.1).to(device).train()
        found.append([part.cpu() for part in front_end(audio.to(device), lengths, seeds=seeds)])
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-3)
    assert torch.equal(found[1][1], found[0][1])


def ctc(device: str) -> list[Tensor]:
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(16, 120, 30, generator=random).to(device).requires_grad_()
    lengths = torch.randint(60, 121, (16,), generator=random)
    targets = torch.randint(1, 30, (16 * 20,), generator=random)
    losses = ctc_losses(logits, lengths, targets, torch.full((16,), 20), skip_infeasible=True)
    return [losses.detach().cpu(), *(part.cpu() for part in torch.autograd.grad(losses.sum(), logits))]


def test_ctc_is_that_of_the_cpu() -> None:
    for one, other in zip(ctc(GPU), ctc("cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_ctc_gives_the_same_bits_where_they_are_asked_for() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        first = ctc(GPU)
        for _ in range(20):
            assert all(torch.equal(one, other) for one, other in zip(ctc(GPU), first, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_training_follows_the_losses_of_the_cpu() -> None:
    losses = [
        small_training.train(*small_training.make(), accelerator=accelerator, devices=1).losses
        for accelerator in ("cpu", ACCELERATOR)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1][-1] < 0.8 * losses[1][0]


def recipe(**training: object) -> small_fit.Recipe:
    return small_fit.recipe(device=ACCELERATOR, **training)


def test_training_comes_to_the_same_weights_where_they_are_asked_for(tmp_path: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for name in ("one", "other"):
            small_fit.run(tmp_path / name, recipe(deterministic=True))
    finally:
        torch.use_deterministic_algorithms(before)
    assert small_fit.same(tmp_path / "one", tmp_path / "other")


def test_a_run_that_was_interrupted_goes_on_to_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    settings = {"deterministic": True, "average": 0.9, "average_best": 2}
    try:
        small_fit.run(tmp_path / "whole", recipe(**settings))
        with pytest.MonkeyPatch.context() as patch:
            small_fit.at_batch(patch, 10, lambda: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(TrainingInterrupted):
                small_fit.run(tmp_path / "cut", recipe(**settings))
        assert small_fit.run(tmp_path / "cut", recipe(**settings)).resumed == 1
    finally:
        torch.use_deterministic_algorithms(False)
    assert small_fit.same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_of_the_gpu_can_be_gone_on_with_on_the_cpu(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small_fit.at_batch(patch, 10, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            small_fit.run(tmp_path, recipe())
    outcome = small_fit.run(tmp_path, small_fit.recipe())
    assert outcome.resumed == 1
    assert outcome.best_dev_wer is not None


def test_bfloat16_is_chosen_and_learns(tmp_path: Path) -> None:
    wanted = recipe(precision="auto")
    assert choose_precision(TrainingConfig(device=ACCELERATOR)) == "bf16-mixed"
    assert small_fit.run(tmp_path, wanted).precision == "bf16-mixed"
    diary = small_training.train(
        *small_training.make(), accelerator=ACCELERATOR, devices=1, precision="bf16-mixed"
    )
    assert diary.losses[-1] < 0.8 * diary.losses[0]


def test_layers_computed_twice_drop_what_they_dropped_the_first_time(tmp_path: Path) -> None:
    try:
        small_fit.run(tmp_path / "once", recipe(deterministic=True))
        small_fit.run(tmp_path / "twice", recipe(deterministic=True, recompute=True))
    finally:
        torch.use_deterministic_algorithms(False)
    assert small_fit.same(tmp_path / "once", tmp_path / "twice")


def test_progress_tells_the_memory_of_the_gpu() -> None:
    torch.cuda.reset_peak_memory_stats()
    before = progress.peak_memory()
    held = torch.empty(2**28, dtype=torch.uint8, device=GPU)
    assert progress.peak_memory() == pytest.approx(before + 0.25, abs=0.01)
    del held


@pytest.fixture(scope="module")
def spoken(
    tmp_path_factory: pytest.TempPathFactory, synthetic_speech: Callable, synthetic_texts: list[str]
) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("spoken")
    utterances = []
    for index, text in enumerate(synthetic_texts[:16]):
        samples = synthetic_speech(text, seed=index, noise=1e-3)
        path = folder / f"{index:02}.wav"
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        utterances.append(Utterance(path, text, len(samples) / RATE))
    return utterances


def test_decoding_finds_the_texts_of_the_cpu(tiny_bundle: Path, spoken: list[Utterance]) -> None:
    texts = [recognise(load_bundle(tiny_bundle), spoken, device=device).texts for device in ("cpu", GPU)]
    assert texts[0] == texts[1]
    bundle = load_bundle(tiny_bundle)
    decoders = make_decoders(DecodingConfig(decoder="beam"), bundle.units)
    found = [recognise_each(bundle, spoken, decoders, device=device) for device in ("cpu", GPU)]
    for name, recognitions in found[0].items():
        assert recognitions.texts == found[1][name].texts
    placed = align_manifest(model=bundle, utterances=spoken, device=GPU)
    assert all(isinstance(row, Alignment) for row in placed)


def test_draws_of_dropout_are_repeated(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    bundle.model.dropout.rate = 0.3
    audio = [torch.randn(4000, generator=torch.Generator().manual_seed(index)) for index in range(3)]
    first, again = (draw_log_probs(bundle, audio, samples=3, device=torch.device(GPU)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one[0], one[1])


def test_a_language_model_learns_and_scores(tmp_path: Path) -> None:
    ids = np.tile(np.array([1, 2, 3, 4, 0]), 400)
    config = LMTrainingConfig(
        device=ACCELERATOR, updates=60, dev_every=30, batch=8, window=10, learning_rate=0.03
    )
    torch.manual_seed(0)
    model = LanguageModel(NetworkConfig(layers=2, hidden=16, state_dropout=0.1), units=5)
    options = {"checkpoints": tmp_path / "checkpoints", "logs": tmp_path / "logs", "seed": 0}
    fit_language_model(model, train=ids, dev=ids[:50], config=config, **options)  # type: ignore[arg-type]
    expected = score_stream(model, ids[:50]), score_lines(model, [ids[:4], ids[:2]])
    assert float(expected[0].mean()) > -0.5
    model.to(GPU)
    torch.testing.assert_close(score_stream(model, ids[:50]).cpu(), expected[0], rtol=1e-2, atol=1e-2)
    for one, other in zip(score_lines(model, [ids[:4], ids[:2]]), expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


def test_the_augmentation_hides_what_it_hides_on_the_cpu() -> None:
    from asr_lstm.augment import SpecAugment

    masks = SpecAugment(AugmentConfig(), bands=8, frame_seconds=0.03).train()
    features, lengths, seeds = torch.ones(3, 50, 16), torch.tensor([50, 20, 49]), torch.arange(3)
    expected = masks(features, lengths, seeds)
    assert torch.equal(masks(features.to(GPU), lengths, seeds).cpu(), expected)
