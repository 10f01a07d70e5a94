"""What is watched of gradients is true, and watching changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import small_training as small
import torch
from lightning.pytorch.loggers import Logger

from asr_lstm.batching import Draw, collate
from asr_lstm.gradients import GradientWatch, gradient_reach, norms_by_layer


class Notebook(Logger):
    """Keeps what is logged."""

    name = version = "notebook"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_norms_of_a_layer_are_those_of_its_parameters_together() -> None:
    named = [
        ("encoder.layers.0.weight_ih", torch.tensor([3.0])),
        ("encoder.layers.0.bias", torch.tensor([4.0])),
        ("encoder.norms.0.weight", None),
        ("head.weight", torch.tensor([[2.0, 0.0]])),
    ]
    assert norms_by_layer(named) == pytest.approx({"layers.0": 5.0, "head": 2.0})


def test_reach_is_the_derivative_of_the_last_output() -> None:
    task, data = small.make()
    model = task.model.double()
    batch = collate([data.train_set[Draw(4, 0)]])
    inputs = batch.inputs.double()
    reach = gradient_reach(model, inputs, batch.lengths)
    assert model.training
    assert [len(norms) for norms in reach] == [inputs.shape[1]] * 2
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0)).double()

    def last(frames: torch.Tensor) -> torch.Tensor:
        features, lengths = model.front_end(frames, batch.lengths)
        return model.encoder(features, lengths)[0, -1] @ direction

    model.eval()
    with torch.no_grad():
        for frame in (0, inputs.shape[1] // 2, inputs.shape[1] - 1):
            slopes = []
            for dim in range(inputs.shape[2]):
                nudge = torch.zeros_like(inputs)
                nudge[0, frame, dim] = 1e-6
                slopes.append((last(inputs + nudge) - last(inputs - nudge)) / 2e-6)
            assert float(torch.stack(slopes).norm()) == pytest.approx(float(reach[0][frame]), rel=1e-3)


def test_watching_writes_and_changes_nothing() -> None:
    task, data = small.make(dropout=0.2)
    losses = small.train(task, data).losses
    book = Notebook()
    watched, data = small.make(dropout=0.2)
    watch = GradientWatch(0.01, norm_every=1, reach_every=4)
    assert small.train(watched, data, watch, logger=book).losses == losses
    assert torch.equal(small.weights(watched), small.weights(task))
    norms = [(step, row) for step, row in book.rows if "gradient/head" in row]
    reach = [(step, row) for step, row in book.rows if "reach/layers.1/0.1s" in row]
    assert [step for step, _ in norms] == list(range(len(losses)))
    assert [step for step, _ in reach] == list(range(4, len(losses) + 1, 4))
    assert {"gradient/layers.0", "gradient/layers.1", "gradient/norms.0"} < set(norms[0][1])
    assert all(0 <= value < 100 for _, row in reach for value in row.values())


def test_reach_knows_that_layers_after_a_time_reduction_have_longer_frames() -> None:
    book = Notebook()
    task, data = small.make(time_reduction=(2,))
    reach: list[list[torch.Tensor]] = []

    class Watch(GradientWatch):
        def _at_distances(self, norms: list[torch.Tensor]) -> dict[str, float]:
            reach.append(norms)
            return super()._at_distances(norms)

    small.train(task, data, Watch(0.05, norm_every=100, reach_every=1), logger=book)
    rows = [row for _, row in book.rows if "reach/layers.0/0.1s" in row]
    assert rows
    for row, (first, second) in zip(rows, reach, strict=True):
        assert len(second) == -(-len(first) // 2)
        assert row["reach/layers.0/0.1s"] == pytest.approx(float(first[-3] / first[-1]))
        assert row["reach/layers.1/0.1s"] == pytest.approx(float(second[-2] / second[-1]))


def test_norms_are_those_before_clipping() -> None:
    book = Notebook()
    task, data = small.make(gradient_clip=1e-6)
    small.train(task, data, GradientWatch(0.01, norm_every=1), logger=book)
    norms = next(row for _, row in book.rows if "gradient/head" in row)
    assert sum(value**2 for value in norms.values()) ** 0.5 > 1e-2
