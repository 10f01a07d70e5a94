"""What the model makes of one utterance: the features that it hears and the units that it is sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from asr_lstm.bundle import Bundle
from asr_lstm.decoding.greedy import UnitSpan, greedy_units
from asr_lstm.inference import load_inputs, run_batch
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.units import BLANK

MAX_SECONDS = 20.0  # of an utterance that are shown and played: enough to see what went wrong
MAX_FRAMES = 2000  # of inputs that are not audio


@dataclass(frozen=True)
class Hearing:
    """The beginning of an utterance through a model's ears.

    Attributes:
        inputs: (samples,) audio or (frames, dims).
        features: (frames, bands), normalised.
        spans: the units of the best path, with the model's frames.
        sureness: (frames of the model,), the largest posterior of a unit other than the blank.
        stack: frames of features in one of the model.
        frame_seconds: from one frame of features to the next.
        text: what the model reads in all that is shown.
        whole: whether that is the whole utterance.
    """

    inputs: NDArray[np.float32]
    features: NDArray[np.float32]
    spans: Sequence[UnitSpan]
    sureness: NDArray[np.float32]
    stack: int
    frame_seconds: float
    text: str
    whole: bool


def hear(bundle: Bundle, utterance: Utterance, *, load: Loader) -> Hearing:
    """Run the model on the beginning of an utterance.

    Raises:
        AudioError, DataError: it cannot be loaded.
        ConfigError: the loader does not fit the model.
    """
    config = bundle.features
    audio = config.kind == "log_mel"
    inputs = load_inputs(bundle, _beginning(utterance) if audio else utterance, load=load)
    whole = utterance.duration <= MAX_SECONDS if audio else len(inputs) <= MAX_FRAMES
    if not audio:
        inputs = inputs[:MAX_FRAMES]
    logits, lengths = run_batch(bundle, [inputs], device=torch.device("cpu"))
    with torch.inference_mode():
        count = torch.tensor([len(inputs)])
        features, _ = bundle.model.front_end(inputs[None], count)
        frames = int(bundle.model.front_end.raw_lengths(count))
        posteriors = logits[0, : int(lengths)].float().softmax(dim=-1)
        posteriors[:, BLANK] = 0
        sureness = posteriors.max(dim=-1).values
    spans = greedy_units(logits, lengths)[0]
    seconds = config.hop_samples / config.rate if audio else config.hop_ms / 1000
    if not audio and utterance.duration > 0 and whole:
        seconds = utterance.duration / frames
    return Hearing(
        inputs=inputs.numpy(),
        features=features.reshape(-1, config.bands)[:frames].numpy(),
        spans=spans,
        sureness=sureness.numpy(),
        stack=config.stack * bundle.model.time_factor,
        frame_seconds=seconds,
        text=bundle.units.decode([span.unit for span in spans]),
        whole=whole,
    )


def _beginning(utterance: Utterance) -> Utterance:
    return replace(utterance, duration=min(utterance.duration, MAX_SECONDS))
