"""Prefix beam search over CTC posteriors, with language models, a lexicon and hotwords."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asr_lstm.decoding.greedy import valid_frames
from asr_lstm.decoding.hypotheses import LastBeam, best_hypotheses
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.lockstep import OutsideModels, search_together
from asr_lstm.decoding.ngram_words import NgramWords, as_unit_model, as_word_model
from asr_lstm.decoding.protocols import UnitModel, WordModel
from asr_lstm.decoding.search import Running, Search
from asr_lstm.decoding.search_arrays import Weights
from asr_lstm.decoding.spelling import spell_units
from asr_lstm.decoding.tables import make_tables
from asr_lstm.errors import DataError
from asr_lstm.units import Units

if TYPE_CHECKING:
    from asr_lstm.lm.ngram import NgramModel

# On read English of 25 frames a second, with a trigram, these pruned no word that wider ones found; half the beam,
# or 5 less of a margin, lost some.
BEAM = 50
SCORE_MARGIN = 25.0
UNIT_MARGIN = 12.0
# A bound for frames in which all is likely; CTC's posteriors are peaked, and the margin leaves a few units.
UNITS_TRIED = 40
# About what a word costs that is spelled by chance: dearer than a rare word of the model, cheaper than a wrong one.
UNKNOWN_SCORE = -10.0
# In the middle of what `tune` finds; a model of other units or data wants its own.
ALPHA = 0.5
# Utterances that ask an outside model together: enough to make its matrices wide, few enough for memory.
TOGETHER = 16


@dataclass(frozen=True)
class BeamConfig:
    """How to search, and how much each part counts.

    The score of a text is log p_ctc + alpha log p_words + unit_alpha log p_units + beta words + unknown_score
    unknown words + the weights of the hotwords in it; all logarithms are natural.

    Attributes:
        beam: prefixes kept after each frame.
        units_tried: the likeliest units by which prefixes are extended in a frame.
        unit_margin: units whose log-probability lies farther than this below the frame's best are not tried.
        score_margin: prefixes whose score lies farther than this below the frame's best are dropped.
        alpha: weight of the word model.
        unit_alpha: weight of the unit model.
        beta: added for each word.
        unknown_score: added for each word that the word model does not know, beside its own score for it.
        nbest: texts wanted of each utterance.
        threads: utterances searched at a time; 0 for as many as torch computes with.
    """

    beam: int = BEAM
    units_tried: int = UNITS_TRIED
    unit_margin: float = UNIT_MARGIN
    score_margin: float = SCORE_MARGIN
    alpha: float = ALPHA
    unit_alpha: float = ALPHA
    beta: float = 0.0
    unknown_score: float = UNKNOWN_SCORE
    nbest: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        for name, least in (("beam", 1), ("units_tried", 1), ("nbest", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("unit_margin", "score_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, but is {getattr(self, name)}")
        for name in ("alpha", "unit_alpha", "beta", "unknown_score"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, not {getattr(self, name)}")

    def weights(self, *, most_hot: float = 0.0) -> Weights:
        """What the compiled search takes of it; `most_hot` is the most that a hotword adds at a unit."""
        # A unit may end a word and begin another; models of weights above 0 only take away.
        most_added = 2 * max(self.beta, 0.0) + 2 * max(self.unknown_score, 0.0) + most_hot
        if min(self.alpha, self.unit_alpha) < 0:
            most_added = math.inf
        return Weights(
            beam=self.beam,
            units_tried=self.units_tried,
            unit_margin=float(self.unit_margin),
            score_margin=float(self.score_margin),
            word_weight=float(self.alpha),
            unit_weight=float(self.unit_alpha),
            word_bonus=float(self.beta),
            unknown_score=float(self.unknown_score),
            most_added=most_added,
        )


class BeamDecoder:
    """A search with its tables, made once and used for many utterances.

    Without any model it is the exact prefix search, up to what is pruned. With a beam of 1 and no model it finds
    the units of `greedy_decode` wherever each frame's best unit has a probability above 1 / sqrt(2); elsewhere it
    may find likelier ones, since it sums over alignments.

    Args:
        units: of the recogniser; they must have `symbols`, see `SpelledUnits`.
        config: how to search.
        word_model: scores whole words. Without a lexicon any word may be written, and one that the model does not
            know gets its score of `<unk>` and the configuration's `unknown_score`.
        unit_model: scores each unit: an n-gram model whose words are the units' symbols (a space is `<space>`), or
            a network.
        lexicon: the only words that may be written.
        hotwords: phrase to weight, see `build_hotwords`.

    Raises:
        DataError: a lexicon that is empty or holds words that the units cannot write, a language model of other
            units or words, or a hotword that the units cannot write.
    """

    def __init__(
        self,
        units: Units,
        *,
        config: BeamConfig | None = None,
        word_model: NgramModel | WordModel | None = None,
        unit_model: NgramModel | UnitModel | None = None,
        lexicon: Collection[str] | None = None,
        hotwords: Mapping[str, float] | None = None,
    ) -> None:
        self.units = units
        self.config = config or BeamConfig()
        self._spelling = spell_units(units)
        words, by_units = as_word_model(word_model), as_unit_model(unit_model)
        self._word_start = 0 if words is None else words.start
        self._unit_start = by_units.start if isinstance(by_units, NgramWords) else 0
        self._outside = OutsideModels(
            None if isinstance(words, NgramWords) else words,
            None if isinstance(by_units, NgramWords) else by_units,
        )
        self._tables = make_tables(
            units,
            self._spelling,
            word_model=words,
            unit_model=by_units,
            lexicon=lexicon,
            hotwords=hotwords,
        )
        letters = self._tables.spelled.shape[1]  # of the longest unit, and a space before it
        self._most_hot = self._tables.hotwords.most_added(letters)

    def with_config(self, **changes: Any) -> BeamDecoder:
        """The same search with some numbers of its configuration changed; the tables are shared."""
        other = copy.copy(self)
        other.config = replace(self.config, **changes)
        return other

    def decode(self, logits: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """The best texts of each utterance of a batch.

        An utterance gets the same texts alone as in any batch, and with any number of threads.

        Args:
            logits: `(batch, frames, units)`, of any scale; unit 0 is the blank.
            lengths: `(batch,)`, frames of each; what lies beyond is never looked at.

        Returns:
            For each utterance up to `nbest` different texts, best first; at least one.

        Raises:
            ValueError: shapes that do not fit.
            DataError: an utterance without frames, or a frame that holds NaN or infinity.
        """
        valid_frames(logits, lengths)
        return self.decode_each([row[:length] for row, length in zip(logits, lengths.tolist(), strict=True)])

    def decode_each(self, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
        """Like `decode`, of utterances each `(frames, units)`."""
        rows = [self._checked(row, index) for index, row in enumerate(logits)]
        threads = self.config.threads or torch.get_num_threads()
        if self._outside.words is not None or self._outside.units is not None:
            groups = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
            return [found for group in groups for found in self._search_together(group)]
        if threads == 1 or len(rows) < 2:
            return [self._search_alone(row) for row in rows]
        with ThreadPoolExecutor(threads) as pool:  # the compiled search lets the interpreter go
            return list(pool.map(self._search_alone, rows))

    def _checked(self, logits: Tensor, index: int) -> Tensor:
        """Float32 logits on the CPU that hold a distribution in each frame."""
        if logits.dim() != 2 or logits.shape[1] != len(self.units):
            raise ValueError(
                f"logits must be (frames, {len(self.units)}) for these units, not {tuple(logits.shape)}"
            )
        if len(logits) == 0:
            raise DataError(f"utterance {index} has no frames: there is nothing to decode; leave it out")
        logits = logits.detach().float().cpu().contiguous()
        broken = ~logits.logsumexp(-1).isfinite()
        if bool(broken.any()):
            frame = int(broken.nonzero()[0])
            raise DataError(
                f"utterance {index}, frame {frame}: the logits are NaN or infinite; "
                "the model is damaged, or its input was"
            )
        return logits

    @property
    def _search(self) -> Search:
        weights = self.config.weights(most_hot=self._most_hot)
        return Search(self._tables, weights, self._word_start, self._unit_start)

    def _search_alone(self, logits: Tensor) -> list[Hypothesis]:
        running = Running(self._search, frames=len(logits))
        running.run(logits.numpy())
        return self._best(running.finish(), logits)

    def _search_together(self, group: Sequence[Tensor]) -> Iterator[list[Hypothesis]]:
        lasts = search_together([row.numpy() for row in group], self._search, self._outside)
        return (self._best(last, row) for last, row in zip(lasts, group, strict=True))

    def _best(self, last: LastBeam, logits: Tensor) -> list[Hypothesis]:
        config = self.config
        return best_hypotheses(
            last,
            logits,
            self.units,
            self._spelling,
            alpha=config.alpha,
            unit_alpha=config.unit_alpha,
            nbest=config.nbest,
        )
