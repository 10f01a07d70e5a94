"""How large a model is and what a training step of it needs, without making either."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from asr_lstm.features import FrontEnd
from asr_lstm.model import EncoderConfig, make_encoder

_FLOAT_BYTES = 4
_TRAINED_COPIES = 4  # parameters, gradients, and the two moments of AdamW


def encoder_frames(front_end: FrontEnd, seconds: Sequence[float]) -> list[int]:
    """Frames of the encoder for so many seconds each, before any speed perturbation."""
    config = front_end.config
    rate = config.rate if config.kind == "log_mel" else 1000 / config.hop_ms
    lengths = torch.tensor([math.floor(value * rate) for value in seconds], dtype=torch.int64)
    return [int(frames) for frames in front_end.output_lengths(lengths)]


def count_parameters(dims: int, encoder: EncoderConfig, *, units: int) -> int:
    """How many numbers a `Recogniser` trains, for features of so many dims, without making one."""
    with torch.device("meta"):  # sizes alone, no numbers
        stack = make_encoder(dims, encoder)
    head = (stack.output_size + 1) * units
    return head + sum(parameter.numel() for parameter in stack.parameters())


def training_memory(front_end: FrontEnd, encoder: EncoderConfig, *, units: int, seconds: float) -> float:
    """Estimate the bytes of a float32 training step over so many seconds of audio, padding counted as audio.

    With D directions of H hidden units over d dims in a layer, 4 bytes each:
    parameters: four times (themselves, gradients, two moments of AdamW);
    a frame and layer: D (d + 6 H) kept by the LSTM (`asr_lstm.lstm.kernels.autograd`), and 1 D H by the norm;
    a frame, once: D (10 H + d) in the backward pass of the widest layer, D H before the head, and 4 times
    the units for logits, log-probabilities and their gradients;
    a sample: 2, the waveform and a copy. The spectrogram is freed before the peak.

    Python and torch themselves come on top, about 0.6 GiB. Measured peaks lay between 0.97 and 1.25 times the rest
    (3 layers of 256 and 5 of 384, 60 and 240 s).
    """
    directions = 2 if encoder.bidirectional else 1
    outputs = directions * encoder.hidden
    widths = [front_end.dims] + [outputs] * (encoder.layers - 1)
    kept = sum(directions * (dims + 6 * encoder.hidden) + outputs for dims in widths)
    once = directions * (10 * encoder.hidden + max(widths)) + outputs + 4 * units
    samples = seconds * front_end.config.rate if front_end.config.kind == "log_mel" else 0
    (frames,) = encoder_frames(front_end, [seconds])
    numbers = frames * (kept + once) + 2 * samples
    parameters = count_parameters(front_end.dims, encoder, units=units)
    return _FLOAT_BYTES * (_TRAINED_COPIES * parameters + numbers)
