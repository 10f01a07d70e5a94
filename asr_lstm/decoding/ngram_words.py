"""An n-gram model as the search asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asr_lstm.decoding.protocols import Float32, Int64, UnitModel, WordModel
from asr_lstm.decoding.search_arrays import WordArcs

if TYPE_CHECKING:
    from asr_lstm.lm.ngram import NgramModel


class NgramWords:
    """A `WordModel` that can also give its arrays, so that the search runs without Python in between."""

    def __init__(self, model: NgramModel) -> None:
        self._model = model

    @property
    def start(self) -> int:
        """The state at the beginning of a sentence."""
        return self._model.begin_state

    @property
    def words(self) -> Sequence[str]:
        """Every word that it knows, the sentence marks too."""
        return self._model.words

    def word_id(self, word: str) -> int:
        """The number of a word, or of `<unk>`."""
        return int(self._model.ids([word])[0])

    def score(self, states: Int64, words: Int64) -> tuple[Float32, Int64]:
        """(n,) states and words -> (n,) natural log probabilities, (n,) next states."""
        log_probs, following = self._model.score(states, words)
        return log_probs, following.astype(np.int64)

    def finish(self, states: Int64) -> Float32:
        """(n,) natural log probabilities of the end of the sentence."""
        from asr_lstm.lm.ngram import END

        return self._model.score(states, END)[0]

    def unigrams(self) -> Float32:
        """(words,) natural log probabilities of each word number, whatever came before."""
        return self._model.score(self._model.null_state, np.arange(len(self._model)))[0]

    def arcs(self) -> WordArcs:
        """The model's own arrays, mapped from a file as they may be."""
        from asr_lstm.lm.ngram import END

        return WordArcs(*self._model.trie, scale=math.log(10), end=END)


def as_word_model(model: NgramModel | WordModel | None) -> WordModel | None:
    """n-gram models in this form, others as they are."""
    from asr_lstm.lm.ngram import NgramModel

    return NgramWords(model) if isinstance(model, NgramModel) else model


def as_unit_model(model: NgramModel | UnitModel | None) -> NgramWords | UnitModel | None:
    """Likewise, of a model over units."""
    from asr_lstm.lm.ngram import NgramModel

    return NgramWords(model) if isinstance(model, NgramModel) else model
