"""From the last beam of a search to texts with their scores and the times of their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_lstm.decoding.align import align_units
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.search_arrays import Int32, Records, trace_back
from asr_lstm.decoding.spelling import Spelling
from asr_lstm.decoding.words import WordSpan, word_spans
from asr_lstm.units import BLANK, Units


@dataclass(frozen=True)
class LastBeam:
    """What a search ends with.

    Attributes:
        beam: the prefixes with the scores of whole texts.
        count: how many there are.
        complete: (beam,) whether a prefix may end there, or else stops within a word that the lexicon lacks.
        trace: their units.
    """

    beam: Records
    count: int
    complete: NDArray[np.bool_]
    trace: Int32


def best_hypotheses(
    last: LastBeam,
    logits: Tensor,
    units: Units,
    spelling: Spelling,
    *,
    alpha: float,
    unit_alpha: float,
    nbest: int,
) -> list[Hypothesis]:
    """The best `nbest` different texts of the last beam.

    Of several spellings of a text (a space more, other pieces) the best stands for it. Where no prefix may end,
    as with a lexicon and too narrow a beam, each loses its unfinished word.

    Args:
        last: the beam.
        logits: (frames, units), for the words' times.
        units: of the recogniser.
        spelling: of these units.
        alpha: weight of the word model.
        unit_alpha: weight of the unit model.
        nbest: how many.
    """
    beam, entries = last.beam, np.flatnonzero(last.complete[: last.count])
    acoustic = beam["both"].copy()
    cut: dict[int, list[int]] = {}
    if not len(entries):
        entries = np.arange(last.count)
        for i in range(last.count):
            cut[i] = _without_last_word(trace_back(last.trace, beam["node"][i]), spelling)
            acoustic[i] = ctc_score(logits, cut[i])
    total = acoustic + alpha * beam["language"] + unit_alpha * beam["unit_language"] + beam["bonus"]
    found: dict[str, Hypothesis] = {}
    for i in entries[np.argsort(-total[entries], kind="stable")].tolist():
        ids = cut[i] if cut else trace_back(last.trace, beam["node"][i])
        text = units.decode(ids)
        if text not in found:
            found[text] = Hypothesis(
                text=text,
                units=tuple(ids),
                acoustic=float(acoustic[i]),
                language=float(beam["language"][i]),
                unit_language=float(beam["unit_language"][i]),
                bonus=float(beam["bonus"][i]),
                total=float(total[i]),
                words=tuple(_words(ids, logits, units, spelling)),
            )
        if len(found) == nbest:
            break
    # A lexicon may leave no way at all through logits of which some are -inf.
    return list(found.values()) or [Hypothesis("", (), -math.inf, 0.0, 0.0, 0.0, -math.inf, ())]


def ctc_score(logits: Tensor, ids: Sequence[int]) -> float:
    """log p_ctc of some units, `logits` (frames, units); -inf where there are too few frames."""
    loss = torch.nn.functional.ctc_loss(
        logits.float().log_softmax(-1)[:, None],
        torch.tensor([list(ids)], dtype=torch.int64),
        torch.tensor([len(logits)]),
        torch.tensor([len(ids)]),
        blank=BLANK,
        reduction="sum",
    )
    return -float(loss)


def _without_last_word(ids: list[int], spelling: Spelling) -> list[int]:
    words = spelling.words(ids)
    return ids[: words[-1][0]] if words else ids


def _words(ids: Sequence[int], logits: Tensor, units: Units, spelling: Spelling) -> list[WordSpan]:
    return word_spans(align_units(logits, ids), units, spelling) if ids else []
