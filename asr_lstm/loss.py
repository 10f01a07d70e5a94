"""The loss of training: connectionist temporal classification, and what may be added to it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asr_lstm.batching import Batch
from asr_lstm.features import mask_padding
from asr_lstm.model import Recogniser
from asr_lstm.units import BLANK


def training_losses(
    model: Recogniser,
    batch: Batch,
    *,
    errors: float = 0.0,
    intermediate: float = 0.0,
    phones: float = 0.0,
    consistency: float = 0.0,
) -> Tensor:
    """What an update makes smaller, of each utterance of a batch: (batch,) in nats, or with `errors` partly in units.

    The CTC loss of the last layer; with `errors`, and E the units that a text drawn from it may be expected to have
    wrong (`asr_lstm.expected_errors`),

        L = (1 - errors) CTC + errors E

    With the CTC loss L' of the middle layer, through the same output layer, the loss is

        (1 - intermediate) L + intermediate L'

    (Lee & Watanabe 2021, "Intermediate Loss Regularization for CTC-based Speech Recognition", arXiv 2102.03216,
    section 3). Where an utterance's phones are known, and P is their CTC loss from the middle layer through an output
    layer of its own, the sum above, S, becomes

        (1 - phones) S + phones P

    (Krishna, Toshniwal & Livescu 2018, "Hierarchical Multitask Learning for CTC-based Speech Recognition", arXiv
    1807.06234, and with larger units Sanabria & Metze 2018, "Hierarchical Multi Task Learning With CTC", arXiv
    1807.07104). With `consistency` that is the mean over two views of the utterance, a and b, and

        consistency * consistency_losses(a, b)

    is added for the last layer (Yao et al. 2024, "CR-CTC", arXiv 2410.05101, section 3).

    Args:
        model: in training mode.
        batch: of one utterance or more.
        errors: share of the expected errors, 0 .. 1.
        intermediate: share of the middle layer's loss, 0 .. 1.
        phones: share of the phones' loss, 0 .. 1; above 0 for a model that has phones.
        consistency: weight of the divergence between views; 0 for a single view.
    """
    views = 2 if consistency else 1
    said = phones > 0 and bool(batch.phone_lengths.any())
    outputs = model.training_outputs(
        batch.inputs, batch.lengths, seeds=batch.seeds, views=views, middle=intermediate > 0, phones=said
    )
    spoken = outputs.pop() if said else None
    transcripts = batch.targets.repeat(views), batch.target_lengths.repeat(views)
    # The preflight dropped what does not fit by its manifest; audio may be a trifle shorter than that says.
    losses, *lower = [
        ctc_losses(logits, lengths, *transcripts, skip_infeasible=True) for logits, lengths in outputs
    ]
    if errors:
        from asr_lstm.expected_errors import expected_errors  # numba takes a second to import

        losses = torch.lerp(losses, expected_errors(*outputs[0], *transcripts), errors)
    if lower:
        losses = torch.lerp(losses, lower[0], intermediate)
    if spoken:
        counts = batch.phone_lengths.repeat(views)
        of_phones = ctc_losses(*spoken, batch.phones.repeat(views), counts, skip_infeasible=True)
        losses = torch.lerp(losses, of_phones, phones * (counts > 0).to(losses))
    if consistency:
        losses = losses.view(views, -1).mean(0) + consistency * consistency_losses(*outputs[0])
    return losses


def consistency_losses(logits: Tensor, lengths: Tensor) -> Tensor:
    """How far two views of the same utterances disagree, (utterances,) in nats.

    Half the sum over frames t of D(sg(b_t) || a_t) + D(sg(a_t) || b_t), with the distributions a_t and b_t of the two
    views and the Kullback-Leibler divergence D; sg(.) is taken as constant, a target. Source: Yao et al. 2024,
    arXiv 2410.05101, section 3, the definition of L_CR.

    Args:
        logits: (2 * utterances, frames, units), the first view of all and then the second.
        lengths: (2 * utterances,) valid frames.
    """
    first, second = functional.log_softmax(logits.float(), dim=-1).chunk(2)
    divergence = sum(
        functional.kl_div(view, target.detach(), reduction="none", log_target=True).sum(-1)
        for view, target in ((first, second), (second, first))
    )
    return mask_padding(torch.as_tensor(divergence), lengths[: len(first)]).sum(1) / 2


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
    if torch.are_deterministic_algorithms_enabled():
        log_probabilities = log_probabilities.cpu()  # a GPU adds up its gradient in an order that changes
    losses = functional.ctc_loss(
        log_probabilities,
        targets.to(log_probabilities.device),
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=skip_infeasible,
    )
    return losses.to(logits.device)
