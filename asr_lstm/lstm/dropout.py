"""The kinds of dropout for recurrent networks, one small class each: what is dropped, and how often it is redrawn.

Those between layers are modules, those within a cell are drawn by the `LSTMLayer` that has them, in training. All are
inverted (what is kept is scaled by 1 / (1 - rate), so that the mean stays) except zoneout, and all but zoneout are
the identity in evaluation. None has parameters: they add nothing to a state dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr_lstm.lstm.kernels import PackingPlan, StepNoise
from asr_lstm.lstm.kernels.noise import draw_seed
from asr_lstm.lstm.kernels.rows import drop_numbers, mask_rows


def sequence_mask(*shape: int, rate: float, like: Tensor) -> Tensor:
    """Draw an inverted-dropout mask: 0 with probability `rate`, else 1 / (1 - rate), so the mean is 1.

    Args:
        shape: of the mask; it has no time axis, which is what makes the dropout variational.
        rate: probability of a zero.
        like: a tensor whose device and type the mask takes.
    """
    return torch.empty(shape, device=like.device, dtype=like.dtype).bernoulli_(1 - rate).div_(1 - rate)


def check_rate(rate: float, *, name: str) -> float:
    """Return `rate`, or raise a ValueError naming it where it is not in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {rate}")
    return rate


class Rated:
    """What is dropped at a rate, of which training may use a part at first (`asr_lstm.lstm.scale_dropout`).

    Attributes:
        rate: probability of a drop.
        share: of the rate that is used, 0 .. 1.
    """

    rate: float
    share: float = 1.0

    @property
    def present(self) -> float:
        """The probability of a drop as things stand."""
        return self.rate * self.share


class Dropout(Rated, nn.Module):
    """What drops numbers on their way between modules, in training alone.

    Args:
        rate: probability of a drop.
        name: by which a wrong rate is refused.
    """

    def __init__(self, rate: float, *, name: str = "rate") -> None:
        super().__init__()
        self.rate = check_rate(rate, name=name)

    @property
    def active(self) -> bool:
        """Whether anything is dropped: in training, at a rate above 0."""
        return self.training and self.present > 0

    def extra_repr(self) -> str:
        """The rate, for print(module)."""
        return f"rate={self.rate}"


class LockedDropout(Dropout):
    """Dropout whose mask is the same at each frame of a sequence and differs between sequences.

    Source: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks" (arXiv 1512.05287), section 4: the mask z_x on the inputs of a layer, x_t * z_x.

    Args:
        rate: probability that a dimension of a sequence is zeroed.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Mask inputs (batch, frames, dims)."""
        if not self.active:
            return inputs
        batch, _, dims = inputs.shape
        return inputs * sequence_mask(batch, 1, dims, rate=self.present, like=inputs)

    def on_rows(self, rows: Tensor, plan: PackingPlan) -> Tensor:
        """Mask packed rows (rows, dims) with the masks that `forward` would draw."""
        if not self.active:
            return rows
        mask = sequence_mask(plan.batch, 1, rows.shape[-1], rate=self.present, like=rows)[:, 0]
        return mask_rows(rows, mask.index_select(0, plan.order), plan.sequence)


class StepDropout(Dropout):
    """Standard dropout, redrawn at each frame: what the others are compared with.

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"; between
    LSTM layers Zaremba, Sutskever & Vinyals 2014 (arXiv 1409.2329): x_t * m_t, m_t drawn for each t.

    Args:
        rate: probability that a number is zeroed.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Mask numbers (..., dims)."""
        if not self.active:
            return inputs
        return drop_numbers(inputs.reshape(-1, inputs.shape[-1]), draw_seed(), self.present).view_as(inputs)


class EmbeddingDropout(Dropout):
    """Dropout of whole rows of an embedding: a word is dropped wherever it occurs, or nowhere.

    Source: Gal & Ghahramani 2016 (arXiv 1512.05287), section 4.2, and Merity et al. 2018 (arXiv 1708.02182),
    section 4.3: a mask (words, 1) on the embedding matrix, one a forward pass.

    Args:
        rate: probability that a word is dropped.
    """

    def forward(self, words: Tensor, embedding: nn.Embedding) -> Tensor:
        """Embed words, integers of any shape, to (..., dims)."""
        vectors: Tensor = embedding(words)
        if not self.active:
            return vectors
        mask = sequence_mask(embedding.num_embeddings, 1, rate=self.present, like=vectors)
        return vectors * mask[words]


class StateDropout(Rated):
    """Dropout of the recurrent state with one mask a sequence, in each layer and direction.

    Source: Gal & Ghahramani 2016 (arXiv 1512.05287), equation 7: the mask z_h, U (h_{t-1} * z_h).

    Args:
        rate: probability that a unit of h_{t-1} is hidden from the gates, all through a sequence.
    """

    def __init__(self, rate: float) -> None:
        self.rate = check_rate(rate, name="state_dropout")

    def draw(self, directions: int, batch: int, hidden: int, *, like: Tensor) -> Tensor | None:
        """A mask (directions, batch, hidden), or None where nothing is dropped."""
        rate = self.present
        return sequence_mask(directions, batch, hidden, rate=rate, like=like) if rate else None


class WeightDrop(Rated):
    """DropConnect on a recurrent matrix: one mask a forward pass, held over time and sequences.

    Source: Merity, Keskar & Socher 2018, "Regularizing and Optimizing LSTM Language Models" (arXiv 1708.02182),
    section 2: (U * M) h_{t-1}. The weights themselves are never written to: their gradient passes the mask.

    Args:
        rate: probability that a weight is zeroed.
    """

    def __init__(self, rate: float) -> None:
        self.rate = check_rate(rate, name="weight_dropout")

    def apply(self, weight: Tensor) -> Tensor:
        """The weight (..., columns) with a new mask on it."""
        if not self.present:
            return weight
        return drop_numbers(weight.flatten(0, -2), draw_seed(), self.present).view_as(weight)


class CandidateDropout(Rated):
    """Recurrent dropout without memory loss: a mask on the candidate, redrawn at each step.

    Source: Semeniuta, Severyn & Barth 2016, "Recurrent Dropout without Memory Loss" (arXiv 1603.05118),
    section 3: c_t = f_t * c_{t-1} + i_t * d(z_t). What the cell holds is never dropped.

    Args:
        rate: probability that a unit's candidate is zeroed at a step.
    """

    def __init__(self, rate: float) -> None:
        self.rate = check_rate(rate, name="candidate_dropout")


class Zoneout:
    """Units that keep their old value at a step instead of the new one, drawn at each step.

    Source: Krueger et al. 2017, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations"
    (arXiv 1606.01305), section 3.2, with c' = f_t * c_{t-1} + i_t * z_t:

        c_t = d^c_t * c_{t-1} + (1 - d^c_t) * c'
        h_t = d^h_t * h_{t-1} + (1 - d^h_t) * o_t * tanh(c')

    In evaluation each d is its mean, the rate.

    Args:
        cell: probability that a unit of the cell stays.
        state: probability that a unit of the hidden state stays.
    """

    def __init__(self, cell: float, state: float) -> None:
        self.cell = check_rate(cell, name="zoneout_cell")
        self.state = check_rate(state, name="zoneout_state")


def draw_noise(candidate: CandidateDropout, zoneout: Zoneout, *, training: bool) -> StepNoise:
    """What the kernels are to draw at each step of a forward pass, by a seed from torch's own generator."""
    if not training:
        return StepNoise(cell=zoneout.cell, state=zoneout.state, expected=True)
    drawing = candidate.present or zoneout.cell or zoneout.state
    return StepNoise(draw_seed() if drawing else 0, candidate.present, zoneout.cell, zoneout.state)
