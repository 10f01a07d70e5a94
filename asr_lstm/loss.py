"""Connectionist temporal classification, the loss of training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from asr_lstm.units import BLANK


def ctc_losses(
    logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, skip_infeasible: bool = False
) -> Tensor:
    """Connectionist temporal classification: -log p(transcript) in nats, (batch,).

    In float32 whatever the logits are, since float16 and bfloat16 cannot hold the forward variables.
    Source: Graves et al. 2006, "Connectionist Temporal Classification", equation 15.

    Args:
        logits: (batch, frames, units).
        lengths: (batch,) valid frames.
        targets: unit ids of all transcripts, one after the other.
        target_lengths: (batch,) units of each transcript.
        skip_infeasible: count utterances with fewer frames than CTC needs as 0 instead of infinity.
    """
    log_probabilities = functional.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    return functional.ctc_loss(
        log_probabilities,
        targets.to(logits.device),
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=skip_infeasible,
    )
