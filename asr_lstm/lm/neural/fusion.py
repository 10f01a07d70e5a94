"""A neural language model inside the beam search: its view of a recogniser's next unit."""

from __future__ import annotations

import torch
from torch import Tensor

from asr_lstm.decoding.spelling import SpelledUnits
from asr_lstm.errors import DataError
from asr_lstm.lm.neural.bundle import NeuralLM
from asr_lstm.lm.neural.text_units import END
from asr_lstm.lstm import States

State = tuple[Tensor, ...]
# So many of the units that are lacking are named.
_NAMED = 5


class NeuralUnits:
    """A `decoding.protocols.UnitModel` over the units of a recogniser, which the language model must all have.

    Units that only the language model has are passed over; their probability is not shared out.

    Args:
        lm: of characters.
        units: the recogniser's, characters too.

    Raises:
        DataError: either is of other units, or the language model lacks some of the recogniser's.
    """

    def __init__(self, lm: NeuralLM, units: SpelledUnits) -> None:
        if units.kind != "characters":
            raise DataError(
                f"only a recogniser of characters asks an LSTM while it searches, this one is of {units.kind}; say "
                "--rescore instead of --lstm"
            )
        numbers = {symbol: number for number, symbol in enumerate(lm.units.symbols, start=1)}
        lacking = [repr(symbol) for symbol in units.symbols if symbol not in numbers]
        if lm.units.kind != units.kind or lacking:
            named = ", ".join(lacking[:_NAMED]) + (", ..." if len(lacking) > _NAMED else "")
            raise DataError(
                f"the language model is of {lm.units.kind} and lacks {len(lacking)} of the recogniser's "
                f"{len(units.symbols)} units{' (' + named + ')' if lacking else ''}; "
                "train it with `--recogniser` for this recogniser"
            )
        self._model = lm.model
        self._columns = torch.tensor([END, *(numbers[symbol] for symbol in units.symbols)])

    def start(self) -> tuple[Tensor, State]:
        """(1, units) log-probabilities of a text's first unit, and the state: (1, layers, 1, hidden) each."""
        return self._read(torch.tensor([END]), None)

    def step(self, units: Tensor, state: State) -> tuple[Tensor, State]:
        """(n,) units after states (n, ...) -> (n, units) log-probabilities of the next, (n, ...) states."""
        return self._read(self._columns[units], States(*(part.permute(1, 2, 0, 3) for part in state)))

    def _read(self, units: Tensor, states: States | None) -> tuple[Tensor, State]:
        logits, after = self._model(units[:, None], states=states)
        log_probs = logits[:, 0].float().log_softmax(-1)[:, self._columns]
        return log_probs, tuple(part.permute(2, 0, 1, 3) for part in after)
