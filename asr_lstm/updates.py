"""What an update of the weights is made of: the gradients of some batches, added up and counted."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asr_lstm.batching import Batch, Unreadable
from asr_lstm.errors import DataError
from asr_lstm.parallel import sum_over_processes

log = logging.getLogger(__name__)


class GradientSum:
    """Gradients of the *summed* loss, over the batches of an update and then over processes.

    They are divided by the units of all of them only at the end: so a loss a unit is the same however the batches
    are cut, dealt out, or missing. DDP's own averaging is not used: it would weigh processes, not units, and
    could not begin a batch anew that ran out of memory half-way.

    Args:
        parameters: that are trained.

    Attributes:
        indices: (utterances,) of those whose gradients are in it, from this process.
        losses: (utterances,) of each, summed over its units.
        unreadable: what is missing from it.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.clear()

    def clear(self) -> None:
        """Begin a new update."""
        self._gradients: list[Tensor] | None = None
        self._units = 0
        self.drawn = 0
        self._indices: list[Tensor] = []
        self._losses: list[Tensor] = []
        self.unreadable: list[Unreadable] = []

    def add(self, batch: Batch, losses: Tensor) -> None:
        """Add the gradients of a batch's losses (batch,); where memory ends on the way nothing is added."""
        with torch.autocast(losses.device.type, enabled=False):  # its place is the forward pass
            gradients = torch.autograd.grad(losses.sum(), self.parameters, materialize_grads=True)
        # As `Tensor.backward` would lay them out: autograd hands on views and channels-last tensors as they were made,
        # and torch's fused optimiser reads a gradient in the order of its memory, whatever its strides say.
        gradients = tuple(
            gradient
            if gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        )
        if self._gradients is None:
            self._gradients = list(gradients)
        else:
            torch._foreach_add_(self._gradients, gradients)
        self._units += int(batch.target_lengths.sum())
        self._indices.append(batch.indices)
        self._losses.append(losses.detach())

    @property
    def gradients(self) -> list[Tensor]:
        """Of each parameter, from this process; zeros while there is no batch."""
        return self._gradients or [torch.zeros_like(parameter) for parameter in self.parameters]

    @property
    def indices(self) -> Tensor:
        """(utterances,) added so far."""
        return torch.cat(self._indices) if self._indices else torch.zeros(0, dtype=torch.long)

    @property
    def losses(self) -> Tensor:
        """(utterances,) their losses."""
        return torch.cat(self._losses) if self._losses else torch.zeros(0)

    @property
    def loss(self) -> Tensor:
        """In nats a unit, from this process."""
        return self.losses.sum() / max(1, self._units)

    def over_processes(self) -> tuple[list[Tensor], Tensor]:
        """Gradients, and (4,) loss, units, utterances drawn and unreadable ones; each summed over all processes."""
        gradients = self.gradients
        counts = torch.tensor([self._units, self.drawn, len(self.unreadable)])
        totals = torch.cat([self.losses.sum().view(1).to(gradients[0]), counts.to(gradients[0])])
        *summed, totals = sum_over_processes([*gradients, totals])
        return summed, totals


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice: on a GPU, in torch on a CPU, or in Python."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
    )


def split_if_need_be(step: Callable[[Batch], None], batch: Batch, *, name: Callable[[int], str]) -> None:
    """Take a step on a batch; where memory does not suffice, on its halves.

    Args:
        step: must leave nothing behind when it fails.
        batch: of one utterance or more.
        name: of an utterance by its index, for the error.

    Raises:
        DataError: a single utterance does not fit.
    """
    try:
        step(batch)
        return
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise DataError(
                f"{name(int(batch.indices[0]))}: memory does not suffice for this utterance alone; set "
                "training.recompute, make the model smaller, or leave it out by its duration"
            ) from error
    # The error is gone, and with it the tensors that its traceback held.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    log.warning(
        "memory does not suffice for %d utterances of %d samples or frames: taken in two halves; "
        "a smaller data.batch_seconds would be faster",
        *batch.inputs.shape[:2],
    )
    for half in halves(batch):
        split_if_need_be(step, half, name=name)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """The first and the second half of a batch's utterances, each padded no more than it must be."""
    middle = len(batch) // 2
    units = int(batch.target_lengths[:middle].sum())
    phones = int(batch.phone_lengths[:middle].sum())
    first, second = slice(None, middle), slice(middle, None)
    return (
        _part(batch, first, batch.targets[:units], batch.phones[:phones]),
        _part(batch, second, batch.targets[units:], batch.phones[phones:]),
    )


def _part(batch: Batch, rows: slice, targets: Tensor, phones: Tensor) -> Batch:
    lengths = batch.lengths[rows]
    return replace(
        batch,
        inputs=batch.inputs[rows, : int(lengths.max())],
        lengths=lengths,
        targets=targets,
        target_lengths=batch.target_lengths[rows],
        seeds=batch.seeds[rows],
        indices=batch.indices[rows],
        phones=phones,
        phone_lengths=batch.phone_lengths[rows],
        unreadable=[],
    )
