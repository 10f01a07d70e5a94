"""What a trained model says of some utterances: one batch through the network, by itself or with dropout drawn."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from asr_lstm.audio import load_utterance
from asr_lstm.batching import pad_inputs
from asr_lstm.bundle import Bundle
from asr_lstm.decoding.montecarlo import sample_log_probs
from asr_lstm.errors import READING_ERRORS, AudioError, ConfigError, DataError
from asr_lstm.functions import find_function
from asr_lstm.manifest import Loader, Utterance

# What a bundle names as its loader where it hears plain audio files.
AUDIO_LOADER = "asr_lstm.audio.load_utterance"
# Seconds of a batch: where nothing is learned, as large as stays far below a gigabyte for any model of ours.
BATCH_SECONDS = 240.0


def load_inputs(bundle: Bundle, utterance: Utterance, *, load: Loader) -> Tensor:
    """Load an utterance and see that it is what the model takes: (samples,) or (frames, dims).

    Raises:
        AudioError, DataError: the loader cannot read it, whichever of `READING_ERRORS` it says so by; or gave nothing.
        ConfigError: the loader gave something of another shape.
    """
    try:
        loaded = load(utterance)
    except (AudioError, DataError):
        raise
    except READING_ERRORS as error:  # of a loader of one's own
        raise DataError(f"{utterance.path}: cannot be loaded ({error})") from error
    inputs = torch.as_tensor(loaded, dtype=torch.float32)
    features = bundle.features
    wanted = () if features.kind == "log_mel" else (features.dims,)
    if inputs.ndim == 0 or tuple(inputs.shape[1:]) != wanted:
        raise ConfigError(
            f"{utterance.path}: the loader gave shape {tuple(inputs.shape)}, the model takes "
            f"({', '.join(['time', *map(str, wanted)])}); use the loader that it was trained with"
        )
    if len(inputs) == 0:
        raise DataError(f"{utterance.path}: holds nothing to recognise; leave it out")
    return inputs


def run_batch(bundle: Bundle, inputs: Sequence[Tensor], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Run the model in evaluation mode on the inputs of some utterances.

    Args:
        bundle: the model; it is moved to `device`.
        inputs: each (samples,) or (frames, dims).
        device: where to compute.

    Returns:
        (batch, frames, units) logits and (batch,) their lengths.
    """
    padded, lengths = pad_inputs(inputs)
    with torch.inference_mode(), _evaluating(bundle.model.to(device)) as model:
        outputs = model(padded.to(device), lengths)
    return cast(tuple[Tensor, Tensor], outputs)


def log_logits(bundle: Bundle, inputs: Sequence[Tensor], *, device: torch.device) -> list[Tensor]:
    """`run_batch` as a tensor an utterance, (frames, units) float32 on the CPU."""
    if not inputs:
        return []
    logits, lengths = run_batch(bundle, inputs, device=device)
    logits = logits.float().cpu()
    return [row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)]


def draw_log_probs(
    bundle: Bundle, inputs: Sequence[Tensor], *, samples: int, device: torch.device
) -> list[Tensor]:
    """Draws of Monte-Carlo dropout: of each utterance (samples, frames, units) on the CPU.

    Raises:
        ConfigError: the model was trained without dropout.
    """
    if not inputs:
        return []
    padded, lengths = pad_inputs(inputs)
    model = bundle.model.to(device)
    return [
        draws.cpu()
        for draws in sample_log_probs(model, padded.to(device), lengths.to(device), samples=samples)
    ]


def broken_logits(logits: Tensor, path: Path) -> DataError | None:
    """What is wrong with an utterance's logits, if anything: a frame that holds no distribution."""
    broken = ~logits.logsumexp(-1).isfinite()
    if not bool(broken.any()):
        return None
    return DataError(
        f"{path}: the network gives NaN or infinity from frame {int(broken.nonzero()[0])} on; "
        "the model is damaged: train it again"
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model without dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(training)


def default_loader(bundle: Bundle) -> Loader:
    """The function that reads an utterance for this model: audio at its rate, or what the bundle names.

    The named function's module is imported, so that it must be installed or stand in Python's path.

    Raises:
        ConfigError: it cannot be imported.
    """
    if bundle.loader == AUDIO_LOADER:
        return functools.partial(load_utterance, rate=bundle.features.rate)
    try:
        return find_function(bundle.loader)
    except ConfigError as error:
        raise ConfigError(f"the model's loader: {error}") from error


def find_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ConfigError: torch knows no such device, or it is not on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # of `meta` there are no numbers
    except (RuntimeError, AssertionError) as error:  # torch without CUDA answers with an AssertionError
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used here ({reason}); use cpu") from error
    return device
