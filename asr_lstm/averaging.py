"""Averaging weights: over the updates of a training, or over some of its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of a model's weights.

    Source: Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", with the moving window of
    Tarvainen & Valpola 2017 (arXiv 1703.01780), equation 1. In the first updates the window is shorter, (1 + n) /
    (10 + n) after n of them, so that the average soon forgets where the weights began.

    Args:
        model: whose weights to follow; buffers are left alone.
        decay: share of the average that an update leaves, such as 0.999: a window of about 1000 updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._parameters = dict(model.named_parameters())
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of the moment in, after an update."""
        if not self._average:
            self._average = self._copy()
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in self._parameters.items():
            self._average[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights; after it, its own."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the averaged ones."""
        if not self._average:  # nothing was learned yet
            self._average = self._copy()
        for name, parameter in self._parameters.items():
            own = parameter.clone()
            parameter.copy_(self._average[name])
            self._average[name] = own

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, by the names of the parameters."""
        return dict(self._average)

    def load_state_dict(self, average: Mapping[str, Tensor], *, updates: int) -> None:
        """Go on from saved averages."""
        self.updates = updates
        self._average = {name: value.clone() for name, value in average.items()}

    def to(self, device: torch.device) -> None:
        """Move the averages to where the model has been moved."""
        self._average = {name: value.to(device) for name, value in self._average.items()}

    def _copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}


def average_weights(several: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of some weights of one model; numbers that are not fractions come from the first."""
    first, *others = several
    mean = {}
    for name, value in first.items():
        if not value.is_floating_point():
            mean[name] = value
            continue
        total = value.double()
        for other in others:
            total = total + other[name].double()
        mean[name] = (total / (1 + len(others))).to(value.dtype)
    return mean
