"""Following the error rates on dev while a model trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from asr_lstm.batching import Batch, Unreadable
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.errors import DataError
from asr_lstm.loss import ctc_losses
from asr_lstm.scoring import score
from asr_lstm.units import Units

# Resampling is for intervals, which training does not show.
_NO_RESAMPLES = 1


@dataclass
class DevShare:
    """What one process made of its share of the dev set.

    Attributes:
        hypotheses: by index.
        loss: summed, in nats.
        units: of the references that it is of.
        drawn: utterances, those that could not be read included.
        unreadable: the latter.
    """

    hypotheses: dict[int, str] = field(default_factory=dict)
    loss: float = 0.0
    units: int = 0
    drawn: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)

    def count(self, batch: Batch) -> None:
        """Note what a batch has and what it lacks."""
        self.drawn += len(batch) + len(batch.unreadable)
        self.unreadable += batch.unreadable

    def add(self, batch: Batch, logits: Tensor, lengths: Tensor, *, units: Units) -> None:
        """Take in the logits (batch, frames, units) of a batch and their lengths (batch,)."""
        losses = ctc_losses(logits, lengths, batch.targets, batch.target_lengths, skip_infeasible=True)
        self.loss += float(losses.sum())
        self.units += int(batch.target_lengths.sum())
        for index, ids in zip(batch.indices.tolist(), greedy_decode(logits, lengths), strict=True):
            self.hypotheses[index] = units.decode(ids)

    @classmethod
    def joined(cls, shares: Iterable[DevShare]) -> DevShare:
        """The shares of all processes together."""
        whole = cls()
        for share in shares:
            whole.hypotheses |= share.hypotheses
            whole.loss += share.loss
            whole.units += share.units
            whole.drawn += share.drawn
            whole.unreadable += share.unreadable
        return whole

    def metrics(self, references: Sequence[str]) -> dict[str, float]:
        """Loss in nats a unit, word and character error rate.

        Args:
            references: by index.

        Raises:
            DataError: not one utterance could be read.
        """
        if not self.hypotheses:
            raise DataError("not one utterance of dev can be read any more; mend the data and start again")
        indices = sorted(self.hypotheses)
        scores = score(
            [references[index] for index in indices],
            [self.hypotheses[index] for index in indices],
            resamples=_NO_RESAMPLES,
        )
        return {
            "dev_loss": self.loss / max(1, self.units),
            "dev_wer": scores.wer,
            "dev_cer": scores.cer,
        }
