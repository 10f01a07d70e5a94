"""Monte-Carlo dropout: the masks that trained the model, drawn anew at decoding, say how sure it is.

A recogniser trained with variational dropout is approximately Bayesian: each draw of its masks is a draw of its
weights from their posterior (Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent
Neural Networks", arXiv 1512.05287, section 4). The mean of the draws' posteriors gives the transcript; the draws' own
transcripts, in so far as they differ from it, say where it is doubtful (`confidence.draw_confidences`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr_lstm.errors import ConfigError
from asr_lstm.lstm.dropout import Dropout
from asr_lstm.lstm.layer import LSTMLayer
from asr_lstm.model import Recogniser

SAMPLES = 8  # more lower the noise of the mean by little: it falls with the square root


def sample_log_probs(
    model: Recogniser, inputs: Tensor, lengths: Tensor, *, samples: int = SAMPLES, seed: int = 0
) -> list[Tensor]:
    """Log posteriors of each utterance under some draws of the dropout masks.

    Each utterance meets the same draws, so that it gets the same posteriors alone as in any batch. Features are
    computed once, and the draws of an utterance run as one batch, if its model drops no weights.

    Args:
        model: of the recogniser; its modes are as before afterwards.
        inputs: (batch, samples) audio, or (batch, frames, dims), on the model's device.
        lengths: (batch,).
        samples: how many draws.
        seed: of the draws.

    Returns:
        For each utterance (samples, frames, units).

    Raises:
        ConfigError: the model has no dropout: all draws would be the same.
        ValueError: fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    results = []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices), _drawing(model):
        features, counts = model.front_end(inputs, lengths)
        for row, count in zip(features, counts.tolist(), strict=True):
            torch.manual_seed(seed)
            draws = []
            for size in _batches(model, samples):
                hidden = model.encode(row[:count].expand(size, -1, -1), torch.full((size,), count))
                draws.append(model.head(model.dropout(hidden)).float().log_softmax(-1))
            results.append(torch.cat(draws))
    return results


def mean_log_probs(draws: Tensor) -> Tensor:
    """Logarithm of the mean posterior: (samples, frames, units) -> (frames, units), to be decoded like logits."""
    return draws.logsumexp(0) - math.log(len(draws))


def _batches(model: Recogniser, samples: int) -> list[int]:
    """How many draws are run together: all, but each alone where weights are dropped, alike for a whole batch."""
    alike = any(
        layer.rates["weight_dropout"] > 0 for layer in model.modules() if isinstance(layer, LSTMLayer)
    )
    return [1] * samples if alike else [samples]


@contextmanager
def _drawing(model: Recogniser) -> Iterator[None]:
    """All in evaluation mode but what draws dropout masks; afterwards as it was."""
    modes = [(module, module.training) for module in model.modules()]
    dropping = [module for module in model.modules() if _rate(module) > 0]
    if not dropping:
        raise ConfigError(
            "the model was trained without dropout, so that there is nothing to sample; use K = 1"
        )
    try:
        model.eval()
        for module in dropping:
            module.training = True
        yield
    finally:
        for module, training in modes:
            module.training = training


def _rate(module: nn.Module) -> float:
    if isinstance(module, Dropout):
        return module.rate
    return max(module.rates.values()) if isinstance(module, LSTMLayer) else 0.0
