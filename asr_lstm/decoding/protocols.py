"""What the beam search asks of a language model: over words, or over the recogniser's own units.

All probabilities are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# How language models write the word that they don't know.
UNKNOWN_WORD = "<unk>"
SENTENCE_MARKS = ("<s>", "</s>", UNKNOWN_WORD)  # stand in a vocabulary, but nobody says them

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


class WordModel(Protocol):
    """A language model over words that remembers its past in a number.

    `asr_lstm.lm.ngram.NgramModel` need not have this form: the search knows it and looks into its arrays.
    """

    @property
    def start(self) -> int:
        """The state at the beginning of a sentence."""

    @property
    def words(self) -> Sequence[str]:
        """Every word that it knows, each once; sentence marks may be among them."""

    def word_id(self, word: str) -> int:
        """The number of a word; that of `<unk>` for words that it does not know, and for "<unk>" itself."""

    def score(self, states: Int64, words: Int64) -> tuple[Float32, Int64]:
        """(n,) states, (n,) word numbers -> (n,) log p(word | state), (n,) next states."""

    def finish(self, states: Int64) -> Float32:
        """(n,) states -> (n,) log p(end of sentence | state)."""


class UnitModel(Protocol):
    """A language model over the recogniser's units whose memory is tensors, such as an LSTM.

    Column 0 of its log-probabilities, the CTC blank's, is that of the end of the text. It may compute where it
    likes; the search gives it units on the CPU, states where it left them, and asks without gradients.
    """

    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(1, units) log-probabilities of the first unit, and the state: tensors, each (1, ...)."""

    def step(self, units: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(n,) int64 units that came after states (n, ...) -> (n, units) log-probabilities of the next, states."""
