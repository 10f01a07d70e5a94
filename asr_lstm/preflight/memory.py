"""How large a model is and what a training step of it needs, without making either."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from asr_lstm.convolution import Convolution
from asr_lstm.features import FrontEnd, LogMel
from asr_lstm.model import EncoderConfig, make_encoder

_FLOAT_BYTES = 4
_TRAINED_COPIES = 4  # parameters, gradients, and the two moments of AdamW
_BLOCK_BYTES = 20  # for each number that a residual block gives (measured)
_NOT_REUSED = 0.5  # of what the front end frees: pieces of other sizes than the encoder asks for (measured)


def encoder_frames(front_end: FrontEnd, seconds: Sequence[float], *, factor: int = 1) -> list[int]:
    """Frames for so many seconds each, before any speed perturbation.

    Args:
        front_end: of the model.
        seconds: of each utterance.
        factor: `time_factor` of the encoder, for its output's frames; 1 counts its input's.
    """
    config = front_end.config
    rate = config.rate if config.kind == "log_mel" else 1000 / config.hop_ms
    lengths = torch.from_numpy(np.floor(np.asarray(seconds, np.float64) * rate).astype(np.int64))
    frames: list[int] = (-(-front_end.output_lengths(lengths) // factor)).tolist()
    return frames


def count_parameters(dims: int, encoder: EncoderConfig, *, units: int, stack: int = 1) -> int:
    """How many numbers a `Recogniser` trains, for features of so many dims, without making one.

    Args:
        dims: of a frame.
        encoder: of the model.
        units: how many, the blank included.
        stack: of the features, for a convolution.
    """
    with torch.device("meta"):  # sizes alone, no numbers
        layers = make_encoder(dims, encoder, stack=stack)
    head = (layers.output_size + 1) * units
    return head + sum(parameter.numel() for parameter in layers.parameters())


def training_memory(
    front_end: FrontEnd,
    encoder: EncoderConfig,
    *,
    units: int,
    seconds: float,
    bfloat16: bool = False,
    views: int = 1,
) -> float:
    """Estimate the bytes of a training step over so many seconds of audio, padding counted as audio.

    With D directions of H hidden units (P after a projection) over d dims in a layer, bytes in float32 and in
    bfloat16:
    parameters: 16 each (themselves, gradients, two moments of AdamW), or 20 with rounded copies of two of these;
    a frame and layer: 4 (d + 6 D H), or 2 d + 16 D H, kept by the LSTM (`asr_lstm.lstm.kernels`);
    a frame of the layer that the backward pass is in: 4 (d + 6 D H), or 6 d + 14 D H, which is most in the last layer
    where frames are not reduced;
    a frame, once: 8 D P before the head and 16 for each unit: logits, log-probabilities and their gradients.
    Before all that the front end takes 12 bytes for each point of the Fourier transform of each of its own frames, and
    8 a sample. These are free again when the encoder begins, which finds use for about half of them.
    A convolution keeps what it hears, and of each of its layers what it gives, in 4 bytes or 2, and 4 bytes of the
    last for its normalisation; a block of it 20 bytes for each number that it gives, in either type (measured: it
    keeps 12 or 8 of them, and what it frees lies between them unused).
    With two `views` (`training.consistency`) each frame counts twice, but for the front end.

    It was 0.85 to 1.15 times the measured peak (2 and 3 layers of 64 to 192, 24 to 80 s, either type). Python
    and torch themselves come on top, about 0.6 GiB. Projection and normalisation inside the cell run through a plain
    loop that keeps several times as much, which is not counted.
    """
    directions = 2 if encoder.bidirectional else 1
    outputs = directions * (encoder.projection or encoder.hidden)
    wide = directions * encoder.hidden
    (frames,) = encoder_frames(front_end, [seconds])
    frames *= views
    dims, kept, peak = front_end.dims, 0, 0
    stack = front_end.config.stack
    if encoder.convolution:
        with torch.device("meta"):
            heard = Convolution(dims, encoder.convolution, stack=stack)
        layers = (dims + heard.middle_size + heard.output_size) * (2 if bfloat16 else 4)
        kept = frames * (layers + (4 + _BLOCK_BYTES * encoder.convolution_blocks) * heard.output_size)
        dims = heard.output_size
    for factor in [*encoder.time_reduction, *[1] * (encoder.layers - len(encoder.time_reduction))]:
        kept += frames * (2 * dims + 16 * wide if bfloat16 else 4 * (dims + 6 * wide))
        peak = max(peak, kept + frames * (6 * dims + 14 * wide if bfloat16 else 4 * (dims + 6 * wide)))
        frames = -(-frames // factor)
        dims = outputs * factor if encoder.reduction == "concat" else outputs
    copies = _TRAINED_COPIES + (1 if bfloat16 else 0)
    parameters = copies * count_parameters(front_end.dims, encoder, units=units, stack=stack)
    training = peak + _FLOAT_BYTES * (parameters + frames * (2 * outputs + 4 * units))
    hearing = _hearing_memory(front_end, seconds)
    return max(training, hearing) + _NOT_REUSED * min(training, hearing)


def _hearing_memory(front_end: FrontEnd, seconds: float) -> float:
    """Bytes that the front end takes while it makes a spectrogram: windows, spectrum, its squares."""
    if not isinstance(front_end, LogMel):
        return 0.0
    samples = seconds * front_end.config.rate
    frames = samples / front_end.config.hop_samples
    points = int(front_end.points)
    return _FLOAT_BYTES * (3 * points * frames + 2 * samples)
