"""Run a trained model over many utterances: batches by length, greedy decoding, results in the input's order."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from asr_lstm.audio import load_utterance
from asr_lstm.batching import pad_inputs, plan_batches
from asr_lstm.bundle import Bundle
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.functions import find_function
from asr_lstm.manifest import Loader, Utterance

# What a bundle names as its loader where it hears plain audio files.
AUDIO_LOADER = "asr_lstm.audio.load_utterance"
# Seconds of a batch: where nothing is learned, as large as stays far below a gigabyte for any model of ours.
BATCH_SECONDS = 240.0


@dataclass(frozen=True)
class Recognition:
    """What was heard in one utterance.

    Attributes:
        index: where the utterance stands in the input.
        text: what was recognised; "" where it could not be loaded.
        error: why it could not be loaded, a line that names the file; None where it could.
    """

    index: int
    text: str
    error: AudioError | DataError | None = None


@dataclass(frozen=True)
class Recognitions:
    """What was heard in all utterances, and what it took.

    Attributes:
        items: in the input's order.
        seconds: wall clock of loading, features, network and decoding.
        audio_seconds: duration of the utterances that could be loaded.
    """

    items: list[Recognition]
    seconds: float
    audio_seconds: float

    @property
    def texts(self) -> list[str]:
        """The text of each utterance."""
        return [item.text for item in self.items]

    @property
    def failures(self) -> list[Recognition]:
        """Those that could not be loaded."""
        return [item for item in self.items if item.error is not None]

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of computing a second of audio; None where there was no audio."""
        return self.seconds / self.audio_seconds if self.audio_seconds > 0 else None


def recognise(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    *,
    load: Loader | None = None,
    batch_seconds: float = BATCH_SECONDS,
    device: str = "cpu",
) -> Recognitions:
    """Recognise utterances; one that cannot be loaded is reported among the results and stops no other.

    The longest come first, so that memory that does not suffice shows at once.

    Args:
        bundle: the model; it is moved to `device`.
        utterances: what to recognise, in any order.
        load: reads an utterance; the bundle's own loader by default.
        batch_seconds: length of a batch, padding included.
        device: torch's name of where to compute.

    Raises:
        ConfigError: no such device, or a loader that cannot be found or does not fit the model.
    """
    load = load or default_loader(bundle)
    place = find_device(device)
    durations = [utterance.duration for utterance in utterances]
    plan = plan_batches(durations, max_seconds=batch_seconds, seed=0, epoch=0, shortest_first=1.0)[::-1]
    console = Console(stderr=True)
    hidden = not console.is_terminal  # rich leaves an empty line even of a transient bar
    items: dict[int, Recognition] = {}
    start = time.perf_counter()
    for batch in track(plan, "recognising", console=console, transient=True, disable=hidden):
        for item in _recognise_batch(bundle, utterances, batch, load=load, device=place):
            items[item.index] = item
    seconds = time.perf_counter() - start
    audio = sum(duration for index, duration in enumerate(durations) if items[index].error is None)
    return Recognitions([items[index] for index in range(len(utterances))], seconds, audio)


def _recognise_batch(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    batch: Sequence[int],
    *,
    load: Loader,
    device: torch.device,
) -> Iterator[Recognition]:
    loaded: list[int] = []
    inputs: list[Tensor] = []
    for index in batch:
        try:
            inputs.append(load_inputs(bundle, utterances[index], load=load))
            loaded.append(index)
        except (AudioError, DataError) as error:
            yield Recognition(index, "", error)
    if not inputs:
        return
    decoded = greedy_decode(*run_batch(bundle, inputs, device=device))
    for index, ids in zip(loaded, decoded, strict=True):
        yield Recognition(index, bundle.units.decode(ids))


def load_inputs(bundle: Bundle, utterance: Utterance, *, load: Loader) -> Tensor:
    """Load an utterance and see that it is what the model takes: (samples,) or (frames, dims).

    Raises:
        AudioError, DataError: from the loader.
        DataError: the loader gave nothing.
        ConfigError: the loader gave something of another shape.
    """
    inputs = torch.as_tensor(load(utterance), dtype=torch.float32)
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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA answers with an AssertionError
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used here ({reason}); use cpu") from error
    return device
