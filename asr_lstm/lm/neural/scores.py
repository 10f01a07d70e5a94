"""What a neural language model thinks of texts: log-probabilities, and the measures made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr_lstm.decoding.spelling import SpelledUnits
from asr_lstm.errors import DataError
from asr_lstm.lm.neural.bundle import NeuralLM
from asr_lstm.lm.neural.network import LanguageModel
from asr_lstm.lm.neural.text_units import END, Ids, UnitKind
from asr_lstm.lstm import States

# A long text is read in up to so many places at once, each at least so many units long: what the later places do
# not remember of the one before matters little over such a length.
_PLACES = 32
_PLACE_UNITS = 4096
# Logits held at a time, 64 MiB.
_NUMBERS = 1 << 24


@torch.inference_mode()
def score_stream(model: LanguageModel, ids: Ids) -> Tensor:
    """Natural log-probability of each unit of a text given all before it, `(n,)`.

    The text is read as one, from an END and an empty memory on; a long one in up to 32 places at once, each of
    which begins with an empty memory after the unit before it.
    """
    places = max(1, min(_PLACES, len(ids) // _PLACE_UNITS))
    length = -(-len(ids) // places)
    padded = np.full(places * length + 1, END, np.int64)
    padded[1 : len(ids) + 1] = ids
    device = model.bias.device
    inputs = torch.from_numpy(padded[:-1].reshape(places, length)).to(device)
    targets = torch.from_numpy(padded[1:].reshape(places, length)).to(device)
    window = max(1, _NUMBERS // (places * len(model.bias)))
    states: States | None = None
    scores = []
    for start in range(0, length, window):
        logits, states = model(inputs[:, start : start + window], states=states)
        states = float_states(states)
        scores.append(_picked(logits, targets[:, start : start + window]))
    return torch.cat(scores, dim=1).reshape(-1)[: len(ids)]


@torch.inference_mode()
def score_lines(model: LanguageModel, lines: Sequence[Ids]) -> list[Tensor]:
    """Natural log-probabilities of the units of each line and its end, `(units + 1,)` on the CPU, each by itself."""
    found: list[Tensor] = [torch.empty(0)] * len(lines)
    order = sorted(range(len(lines)), key=lambda index: len(lines[index]))
    while order:
        longest = len(lines[order[-1]]) + 1
        count = max(1, _NUMBERS // (longest * len(model.bias)))
        batch, order = order[-count:], order[:-count]
        ids = [torch.from_numpy(np.array([END, *lines[index], END], np.int64)) for index in batch]
        lengths = torch.tensor([len(row) - 1 for row in ids])
        padded = pad_sequence(ids, batch_first=True, padding_value=END).to(model.bias.device)
        logits, _ = model(padded[:, :-1], lengths=lengths)
        for index, row, length in zip(batch, _picked(logits, padded[:, 1:]), lengths.tolist(), strict=True):
            found[index] = row[:length].cpu()
    return found


def _picked(logits: Tensor, targets: Tensor) -> Tensor:
    """(batch, steps, units) logits, (batch, steps) units -> their (batch, steps) log-probabilities in float32."""
    logits = logits.float()
    return logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)


def float_states(states: States) -> States:
    """The same in float32, as the next call takes them."""
    return States(states.states.float(), states.cells.float())


class NeuralScorer:
    """Whole texts to their natural log-probabilities, ends included: the second pass of `decoding.rescore`.

    Args:
        lm: the model; each text is normalised as its own texts were.
        units: of the recogniser whose texts they are, to see at once that the model has its characters.

    Raises:
        DataError: the model lacks a character that the recogniser writes.
    """

    def __init__(self, lm: NeuralLM, units: SpelledUnits | None = None) -> None:
        self._lm = lm
        if units is not None and units.kind == "characters":
            self._encode("".join(units.symbols))

    def _encode(self, text: str) -> Ids:
        return self._lm.units.encode(" ".join(self._lm.normalise(text).split("\n")))

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """One log-probability for each text."""
        ids = [self._encode(text) for text in texts]
        return [float(scores.sum(dtype=torch.float64)) for scores in score_lines(self._lm.model, ids)]


@dataclass(frozen=True)
class Measured:
    """How well a model predicts a text; each line's end counts as a character, and as a word.

    Attributes:
        lines: how many line ends were scored.
        characters: of the text, line ends among them.
        words: parted by white space, without the line ends.
        unknown: units that stand for what the model lacks.
        log_prob: natural logarithm, of everything, the memory carried on from line to line.
        unknown_log_prob: the part of it that is the unknown units'.
        alone: `log_prob` where each line is scored by itself.
        unknown_alone: the part of that which is the unknown units'.
    """

    lines: int
    characters: int
    words: int
    unknown: int
    log_prob: float
    unknown_log_prob: float
    alone: float
    unknown_alone: float

    @property
    def nats(self) -> float:
        """Nats a character."""
        return -self.log_prob / self.characters

    @property
    def bits(self) -> float:
        """Bits a character."""
        return self.nats / math.log(2)

    def perplexity(self, *, alone: bool = False, unknown: bool = True) -> float:
        """A word, as `asr_lstm.lm.perplexity` counts: line ends are words.

        Args:
            alone: of each line by itself.
            unknown: with the unknown words; for models of words only.
        """
        log_prob, left_out = (
            (self.alone, self.unknown_alone) if alone else (self.log_prob, self.unknown_log_prob)
        )
        count = self.words + self.lines
        if unknown:
            return math.exp(-log_prob / count)
        return math.exp(-(log_prob - left_out) / max(1, count - self.unknown))


def measure(lm: NeuralLM, text: str) -> Measured:
    """Measure a model on a text, normalised as the model's own texts were.

    Raises:
        DataError: the text is empty, or has characters that the model lacks.
    """
    if not text.strip():
        raise DataError("the text is empty; there is nothing to measure")
    ids = lm.units.encode(text)
    unknown = ids == lm.units.unknown if lm.units.unknown is not None else np.zeros(len(ids), bool)
    carried = score_stream(lm.model, ids).double().cpu().numpy()
    ends = np.flatnonzero(ids == END)
    lines = np.split(ids, ends + 1)
    alone = np.concatenate(
        [scores.double().numpy() for scores in score_lines(lm.model, [line[line != END] for line in lines])]
    )[: len(ids)]
    return Measured(
        lines=len(ends),
        characters=len(text),
        words=len(text.split()),
        unknown=int(unknown.sum()),
        log_prob=float(carried.sum()),
        unknown_log_prob=float(carried[unknown].sum()),
        alone=float(alone.sum()),
        unknown_alone=float(alone[unknown].sum()),
    )


def figures(found: Measured, *, kind: UnitKind) -> dict[str, float]:
    """What is told of a model by name; figures of words bear the same names as an n-gram model's."""
    rows: dict[str, float] = {"sentences" if kind == "words" else "lines": found.lines, "words": found.words}
    if kind == "words":
        return rows | {
            "unknown words": found.unknown,
            "perplexity": found.perplexity(alone=True),
            "perplexity, unknown left out": found.perplexity(alone=True, unknown=False),
            "perplexity, earlier sentences remembered": found.perplexity(),
            "the same, unknown left out": found.perplexity(unknown=False),
        }
    if found.unknown:
        rows["unknown pieces"] = found.unknown
    return rows | {
        "characters": found.characters,
        "nats a character": found.nats,
        "bits a character": found.bits,
        "perplexity a word": found.perplexity(),
        "perplexity a word, each line by itself": found.perplexity(alone=True),
    }


def shown(rows: Mapping[str, float]) -> dict[str, str]:
    """The same as it is printed."""
    texts = {}
    for name, value in rows.items():
        texts[name] = str(value) if isinstance(value, int) else f"{value:.{2 if value >= 10 else 4}f}"
    if "unknown words" in rows:
        texts["unknown words"] += f" ({rows['unknown words'] / max(rows['words'], 1):.2%})"
    return texts
