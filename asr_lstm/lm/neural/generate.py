"""Writing text with a neural language model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from asr_lstm.errors import ConfigError
from asr_lstm.lm.neural.bundle import NeuralLM
from asr_lstm.lm.neural.text_units import END
from asr_lstm.lstm import States


def sampling_distribution(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """The distribution to draw the next unit from.

    Args:
        logits: `(units,)`.
        temperature: what they are divided by; 0 leaves the likeliest alone.
        top_k: only the k likeliest units; 0 for all.
        top_p: of those, only the fewest likeliest that hold this probability together (Holtzman et al. 2020,
            "The Curious Case of Neural Text Degeneration", section 3.1); at least one is left.

    Returns:
        `(units,)` probabilities.

    Raises:
        ConfigError: a temperature below 0, a top_k below 0, or a top_p outside 0 .. 1.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(f"temperature: {temperature} must be a number from 0")
    if top_k < 0:
        raise ConfigError(f"top_k: {top_k} must be at least 1, or 0 for all units")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p: {top_p} must be above 0 and at most 1")
    logits = logits.double()
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(0, keepdim=True), 1.0)
    ordered, units = (logits / temperature).sort(descending=True, stable=True)
    if top_k:
        ordered, units = ordered[:top_k], units[:top_k]
    probs = ordered.softmax(0)
    before = probs.cumsum(0) - probs
    kept = probs * (before < top_p)
    return torch.zeros_like(logits).scatter(0, units, kept / kept.sum())


def generate(
    lm: NeuralLM,
    *,
    prompt: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 1,
) -> Iterator[str]:
    """Go on with a text, unit by unit.

    Args:
        lm: the model.
        prompt: the text's beginning, normalised as the model's own texts were; it is not repeated.
        length: how many units to write; 0 never ends.
        temperature: as all below, see `sampling_distribution`.
        top_k: as above.
        top_p: as above.
        seed: the same text for the same seed.

    Returns:
        What each unit adds to the text, as it is drawn; a word that the model does not know is never drawn.

    Raises:
        DataError: the prompt has a character that the model lacks.
        ConfigError: a length below 0, or as `sampling_distribution`.
    """
    if length < 0:
        raise ConfigError(f"length: {length} must be at least 1, or 0 for text without end")
    ids = [END, *lm.units.encode(lm.normalise(prompt)).tolist()]
    generator = torch.Generator().manual_seed(seed)
    states: States | None = None
    written = 0
    while not length or written < length:
        with torch.inference_mode():
            logits, states = lm.model(torch.tensor([ids]), states=states)
            logits = logits[0, -1]
            if lm.units.unknown is not None:
                logits[lm.units.unknown] = -math.inf
            probs = sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        unit = int(torch.multinomial(probs, 1, generator=generator))
        yield lm.units.write(unit, after=ids[-1])
        ids, written = [unit], written + 1
