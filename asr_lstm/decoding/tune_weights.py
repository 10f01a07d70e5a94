"""Which weights of a decoder are tried, and how: those that its last part brings, from what was found before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from asr_lstm.decoding.decoders import Parts, Rescored, beam_weights, make_decoder
from asr_lstm.decoding.options import BEAM, LSTM, NGRAM, RESCORE, parts_of
from asr_lstm.decoding.rescore import rescore
from asr_lstm.decoding.tune import GRID, REFINEMENTS, Tuning, tune
from asr_lstm.decoding.tuned import Tuned

# An LSTM that searches takes a hundred times as long as an n-gram, so that fewer points are tried: its weight, and
# what it leaves of the n-gram's, or where there is none the bonus of a word.
LSTM_WEIGHTS = (0.2, 0.4, 0.6)
ALPHA_SHARES = (0.5, 1.0)
LSTM_BETAS = (0.0, 1.0)
LSTM_REFINEMENTS = 1
RESCORE_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8)  # the texts are found once, so that many can be tried


def has_weights(name: str) -> bool:
    """Whether a decoder has a weight that those before it lack; hotwords, a lexicon and dropout bring none."""
    return BEAM in parts_of(name) and name.rpartition("+")[2] in (NGRAM, LSTM, RESCORE)


def tune_decoder(
    name: str, parts: Parts, tuned: Tuned, logits: Sequence[Tensor], references: Sequence[str]
) -> Tuning:
    """Find the weights of a decoder with the fewest word errors.

    Args:
        name: of the decoder; it must have weights.
        parts: what it is made of, without weights of the user's own.
        tuned: what was found for the decoders before it.
        logits: of each utterance of a dev set, (frames, units), computed once.
        references: what was said, normalised as the units say.
    """
    task = _Task(name, parts, tuned, logits, references)
    last = name.rpartition("+")[2]
    if last == NGRAM:
        return task.search(GRID, refinements=REFINEMENTS)
    decoder = make_decoder(name, parts, tuned)
    if isinstance(decoder.search, Rescored):
        return task.rescore(decoder.search)
    grid: dict[str, Sequence[float]] = {"lstm_weight": LSTM_WEIGHTS, "beta": LSTM_BETAS}
    if NGRAM in parts_of(name):
        before = beam_weights(name.rpartition("+")[0], parts.config, tuned)
        grid |= {"alpha": [share * before["alpha"] for share in ALPHA_SHARES], "beta": [before["beta"]]}
    return task.search(grid, refinements=LSTM_REFINEMENTS)


@dataclass(frozen=True)
class _Task:
    name: str
    parts: Parts
    tuned: Tuned
    logits: Sequence[Tensor]
    references: Sequence[str]

    def search(self, grid: Mapping[str, Sequence[float]], *, refinements: int) -> Tuning:
        """Try points by searching anew."""

        def transcribe(point: Mapping[str, float]) -> list[str]:
            tuned = Tuned({**self.tuned.weights, self.name: dict(point)})
            decoder = make_decoder(self.name, self.parts, tuned)
            return [nbest[0].text for nbest in decoder.vote.decode_each(self.logits)]

        return tune(transcribe, self.references, grid, refinements=refinements)

    def rescore(self, search: Rescored) -> Tuning:
        """Try weights of the second pass on the texts of one first pass."""
        found = search.first.decode_each(self.logits)
        texts = list(dict.fromkeys(one.text for nbest in found for one in nbest))
        scores = dict(zip(texts, search.score(texts), strict=True))

        def transcribe(point: Mapping[str, float]) -> list[str]:
            weight = point["lstm_weight"]
            ordered = rescore(found, lambda asked: [scores[text] for text in asked], weight=weight)
            return [nbest[0].text for nbest in ordered]

        return tune(transcribe, self.references, {"lstm_weight": RESCORE_WEIGHTS})
