"""Decoders made of a user's options, each under its name, and the confidence of each word that they find."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, tensor
from torch.nn.utils.rnn import pad_sequence

from asr_lstm.decoding.beam import ALPHA, BeamDecoder
from asr_lstm.decoding.calibration import Calibration
from asr_lstm.decoding.confidence import draw_confidences, nbest_confidences
from asr_lstm.decoding.greedy import greedy_units
from asr_lstm.decoding.hypothesis import Hypothesis
from asr_lstm.decoding.lexicon import read_lexicon, split_spellable
from asr_lstm.decoding.options import (
    BEAM,
    DRAWS,
    GREEDY,
    HOTWORDS,
    LEXICON,
    LSTM,
    NBEST,
    NGRAM,
    RESCORE,
    DecodingConfig,
    parts_of,
)
from asr_lstm.decoding.protocols import UnitModel
from asr_lstm.decoding.rescore import SentenceScorer, rescore
from asr_lstm.decoding.spelling import SpelledUnits, spell_units
from asr_lstm.decoding.tuned import TUNED_NAME, Tuned
from asr_lstm.decoding.words import word_spans
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.units import SPACE_SYMBOL, Units

if TYPE_CHECKING:
    from asr_lstm.lm.ngram import NgramModel

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
# What is known of each word, in this order: the mean posterior of its units, the probability of the texts found that
# have it, and that of the texts of draws of dropout.
PATH_SCORE, NBEST_SCORE, DRAWS_SCORE = "path", "nbest", "draws"
_SILENCE = Hypothesis("", (), 0.0, 0.0, 0.0, 0.0, 0.0, ())


class Searching(Protocol):
    """Finds texts in logits."""

    def decode_each(self, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
        """The best texts of utterances, each (frames, units), on the CPU; best first, at least one."""


class GreedyDecoder:
    """The best path as a search like others; its acoustic score is that of this path alone.

    Args:
        units: of the recogniser.
    """

    def __init__(self, units: Units) -> None:
        self._units = units
        self._spelling = spell_units(units)

    def decode_each(self, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
        """The text of each utterance's best path."""
        if not logits:
            return []
        lengths = tensor([len(row) for row in logits])
        found = []
        for row, spans in zip(logits, greedy_units(pad_sequence(list(logits), True), lengths), strict=True):
            ids = tuple(span.unit for span in spans)
            score = float(row.float().log_softmax(-1).amax(-1).sum())
            words = tuple(word_spans(spans, self._units, self._spelling))
            found.append([Hypothesis(self._units.decode(ids), ids, score, 0.0, 0.0, 0.0, score, words)])
        return found


@dataclass(frozen=True)
class Rescored:
    """A search whose texts a model of whole sentences orders anew."""

    first: Searching
    score: SentenceScorer
    weight: float

    def decode_each(self, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
        """The texts of the first pass in their new order."""
        return rescore(self.first.decode_each(logits), self.score, weight=self.weight)


@dataclass(frozen=True)
class Decoder:
    """A search with its name and all that its words' confidences need.

    Attributes:
        name: such as `beam+ngram`.
        search: finds texts.
        vote: finds the text of a draw of dropout.
        draws: of Monte-Carlo dropout; 0 for none.
        nbest: texts to be shown; `find` may find more, on which confidences rest.
        calibration: of the scores of its words; None where it has none.
    """

    name: str
    search: Searching
    vote: Searching
    draws: int = 0
    calibration: Calibration | None = None
    nbest: int = NBEST

    def find(self, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
        """The texts of utterances, each (frames, units); best first, at least one, "" where there is no frame."""
        return _search(self.search, logits)

    def votes(self, draws: Sequence[Tensor]) -> list[list[list[Hypothesis]]]:
        """The text of each draw of dropout of utterances, each (draws, frames, units)."""
        found = iter(_search(self.vote, [row for utterance in draws for row in utterance]))
        return [[next(found) for _ in utterance] for utterance in draws]

    @property
    def searches(self) -> bool:
        """Whether it finds more texts than the best path's."""
        return BEAM in parts_of(self.name)

    @property
    def score_names(self) -> list[str]:
        """What the columns of `word_scores` are."""
        searched = [NBEST_SCORE] if self.searches else []
        return [PATH_SCORE, *searched, *([DRAWS_SCORE] if self.draws else [])]

    def word_scores(self, nbest: Sequence[Hypothesis], votes: Sequence[Sequence[Hypothesis]] = ()) -> Floats:
        """What is known of each word of the best text: (words, scores), each 0 to 1."""
        columns = [[word.confidence for word in nbest[0].words]]
        if NBEST_SCORE in self.score_names:
            columns.append(nbest_confidences(nbest))
        if self.draws:
            columns.append(draw_confidences(nbest, votes))
        return np.array(columns, np.float64).T.reshape(-1, len(columns))

    def confidences(self, scores: Floats) -> list[float]:
        """The confidence of each word: calibrated where the decoder is, else the posterior along its path.

        Of draws of dropout it is their agreement where nothing is calibrated.
        """
        if self.calibration is not None:
            return [float(value) for value in self.calibration(scores)] if len(scores) else []
        return [float(value) for value in scores[:, -1 if self.draws else 0]]


def _search(search: Searching, logits: Sequence[Tensor]) -> list[list[Hypothesis]]:
    found = iter(search.decode_each([row for row in logits if len(row)]))
    return [next(found) if len(row) else [_SILENCE] for row in logits]


def make_decoders(config: DecodingConfig, units: Units, tuned: Tuned | None = None) -> list[Decoder]:
    """All decoders of `config.decoders`, in that order; the last has all that was asked for.

    Args:
        config: what the user said.
        units: of the recogniser.
        tuned: what `asr-lstm tune` found; the user's own weights come before it.

    Raises:
        DataError: a file that cannot be read or does not fit the units.
        ConfigError: the LSTM language model cannot be loaded, or a calibration is of other scores.
    """
    parts = Parts(config, units)
    return [make_decoder(name, parts, tuned or Tuned()) for name in config.decoders]


@dataclass(frozen=True)
class Parts:
    """What decoders are made of, each loaded when first needed and then shared."""

    config: DecodingConfig
    units: Units
    _made: dict[str, BeamDecoder] = field(default_factory=dict)

    @cached_property
    def word_model(self) -> NgramModel:
        """The n-gram model of words.

        Raises:
            DataError: no such model, or one of which the units can write no word.
        """
        from asr_lstm.lm.load import load_ngram
        from asr_lstm.lm.ngram import SPECIAL_WORDS

        path = _given(self.config.lm)
        model = load_ngram(path)
        spelling = spell_units(self.units)
        if SPACE_SYMBOL in model.words:
            raise DataError(
                f"{path}: a model of characters, where words are asked for; train one without --tokens characters"
            )
        if not any(spelling.can_write(word) for word in model.words if word not in SPECIAL_WORDS):
            shown = ", ".join(map(repr, [word for word in model.words if word not in SPECIAL_WORDS][:3]))
            raise DataError(
                f"{path}: the recogniser's units can spell none of its words ({shown}, ...); "
                "train it on text normalised as the transcripts are"
            )
        return model

    @cached_property
    def unit_model(self) -> UnitModel:
        """The LSTM language model over the recogniser's units."""
        from asr_lstm.lm.neural.bundle import load_neural
        from asr_lstm.lm.neural.fusion import NeuralUnits

        path = _given(self.config.lstm)
        with _naming(path):
            return NeuralUnits(load_neural(path), cast(SpelledUnits, self.units))

    @cached_property
    def sentence_scorer(self) -> SentenceScorer:
        """The LSTM language model of whole sentences."""
        from asr_lstm.lm.neural.bundle import load_neural
        from asr_lstm.lm.neural.scores import NeuralScorer

        path = _given(self.config.rescore)
        with _naming(path):
            return NeuralScorer(load_neural(path), cast(SpelledUnits, self.units))

    @cached_property
    def words(self) -> list[str]:
        """The words of the lexicon that the units can write; the others are logged.

        Raises:
            DataError: there is no such word.
        """
        path = _given(self.config.lexicon)
        good, bad = split_spellable(read_lexicon(path), self.units)
        shown = ", ".join(map(repr, bad[:3])) + (", ..." if len(bad) > 3 else "")
        if not good:
            raise DataError(f"{path}: the model's units can spell none of its words ({shown})")
        if bad:
            log.info("%s: %d words that the units cannot spell are left out: %s", path, len(bad), shown)
        return good

    def beam(self, name: str) -> BeamDecoder:
        """The search of a decoder's name, with weights that say nothing yet."""
        kinds = parts_of(name) & {LEXICON, NGRAM, LSTM, HOTWORDS}
        key = "+".join(sorted(kinds))
        if key not in self._made:
            self._made[key] = BeamDecoder(
                self.units,
                word_model=self.word_model if NGRAM in kinds else None,
                unit_model=self.unit_model if LSTM in kinds else None,
                lexicon=self.words if LEXICON in kinds else None,
                hotwords=self.config.hotwords if HOTWORDS in kinds else None,
            )
        return self._made[key]


def make_decoder(name: str, parts: Parts, tuned: Tuned) -> Decoder:
    """One decoder; arguments and errors as of `make_decoders`."""
    config, kinds = parts.config, parts_of(name)
    draws = config.mc if DRAWS in kinds else 0
    calibration = tuned.calibrations.get(name)
    if GREEDY in kinds:
        greedy = GreedyDecoder(parts.units)
        return _fitting(Decoder(name, greedy, greedy, draws, calibration))
    weights = beam_weights(name, config, tuned)
    second = weights.pop("lstm_weight")
    # Calibrated confidences rest on so many texts, however few are to be shown.
    nbest = max(config.nbest, NBEST) if calibration else config.nbest
    beam = parts.beam(name).with_config(beam=config.beam, nbest=nbest, unit_alpha=second, **weights)
    search: Searching = beam
    if RESCORE in kinds:
        search = Rescored(beam, parts.sentence_scorer, second)
    return _fitting(Decoder(name, search, beam.with_config(nbest=1), draws, calibration, config.nbest))


def _fitting(decoder: Decoder) -> Decoder:
    """The decoder, if its calibration is one of its scores.

    Raises:
        ConfigError: it is of others.
    """
    columns = len(decoder.score_names)
    if decoder.calibration and len(decoder.calibration.weights) != columns:
        raise ConfigError(
            f"{TUNED_NAME}: the calibration of {decoder.name} has {len(decoder.calibration.weights)} weights for "
            f"{columns} scores of a word; run `asr-lstm tune` again, or delete the file"
        )
    return decoder


def beam_weights(name: str, config: DecodingConfig, tuned: Tuned) -> dict[str, float]:
    """`alpha`, `beta` and `lstm_weight` of a decoder: the user's, else those that were tuned, else the defaults.

    What the user says of language models is not for the searches without one, which stand beside them.
    """
    weights = {"alpha": ALPHA, "beta": 0.0, "lstm_weight": ALPHA} | dict(tuned.weights_of(name))
    modelled = bool(parts_of(name) & {NGRAM, LSTM}) or not (config.lm or config.lstm)
    for key in weights:
        value = getattr(config, key)
        if value is not None and modelled:
            weights[key] = value
    return weights


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is said of a model's contents, with its name before it; a folder that holds none is named already."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _given(path: Path | None) -> Path:
    if path is None:
        raise ValueError("a decoder's name asks for a model that was not given")
    return path
