"""Watching gradients: whether they explode or vanish, by layer and by distance in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from asr_lstm.batching import Batch
from asr_lstm.model import Recogniser

# Norms cost a pass over the weights, less than 1 % of an update; reach costs a step on one utterance.
NORM_EVERY = 20
REACH_EVERY = 200
# Seconds before the end at which the gradient of the last output is read.
REACH_SECONDS = (0.1, 0.3, 1.0, 3.0)


def norms_by_layer(named: Iterable[tuple[str, Tensor | None]]) -> dict[str, float]:
    """The norm of the gradients of each layer's parameters together.

    Args:
        named: gradients by the names of their parameters, such as `encoder.layers.0.weight_hh`.

    Returns:
        by layer, such as `layers.0` or `head`.
    """
    squares: dict[str, Tensor] = {}
    for name, gradient in named:
        if gradient is not None:
            layer = name.rpartition(".")[0].removeprefix("encoder.") or name
            square = gradient.detach().float().square().sum()
            squares[layer] = squares[layer] + square if layer in squares else square
    values = torch.stack(list(squares.values())).sqrt().tolist() if squares else []  # one wait for a GPU
    return dict(zip(squares, values, strict=True))


def gradient_reach(model: Recogniser, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
    """How strongly the last frame's output depends on each frame before it, in each layer.

    Args:
        model: in whatever mode; dropout is off while this is measured, and no number is drawn but from a fixed seed.
        inputs: (1, samples) or (1, frames, dims), one utterance.
        lengths: (1,)

    Returns:
        for each layer (frames of its input,): the norm of the gradient, with respect to that layer's input at each
        frame, of a random direction of the encoder's last output. The last number is that of the last frame itself.
    """
    met: list[Tensor] = []

    def note(module: nn.Module, arguments: Any) -> tuple[Any, ...]:
        rows, *rest = arguments
        met.append(rows if rows.requires_grad else rows.detach().requires_grad_())
        return (met[-1], *rest)

    was_training = model.training
    model.eval()
    # One sequence is not reordered by packing: a layer's rows are its frames in order.
    hooks = [layer.register_forward_pre_hook(note) for layer in model.encoder.layers]
    try:
        with torch.enable_grad():
            features, lengths = model.front_end(inputs, lengths)
            counts = model.encoder.output_lengths(lengths)  # fewer than of the input, with a time reduction
            last = model.encode(features, lengths)[0, int(counts[0]) - 1]
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(0)).to(last)
    return [gradient.float().norm(dim=-1) for gradient in torch.autograd.grad(last @ direction, met)]


class GradientWatch(Callback):
    """Writes norms of gradients to the logger: `gradient/LAYER`, before they are clipped, and `reach/LAYER/SECONDS`.

    The latter is the norm at the input of a layer so many seconds before the end, relative to the end: 1 at a distance
    of 0, and all but 0 where a layer has forgotten. Watching changes nothing: weights come out the same to the bit.

    Args:
        frame_seconds: length of one frame that the encoder hears; its layers after a time reduction have longer ones.
        norm_every: updates from one measurement of norms to the next.
        reach_every: the same of reach.
    """

    def __init__(
        self, frame_seconds: float, *, norm_every: int = NORM_EVERY, reach_every: int = REACH_EVERY
    ) -> None:
        self.frame_seconds = frame_seconds
        self.norm_every = norm_every
        self.reach_every = reach_every

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Norms by layer; gradients are not clipped yet."""
        if trainer.logger is not None and trainer.global_step % self.norm_every == 0:
            norms = norms_by_layer((name, weight.grad) for name, weight in pl_module.model.named_parameters())
            values = {f"gradient/{layer}": norm for layer, norm in norms.items()}
            trainer.logger.log_metrics(values, step=trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Reach, on the longest utterance of the batch."""
        if trainer.logger is None or trainer.global_step % self.reach_every or not len(batch):
            return
        longest = int(batch.lengths.argmax())
        length = batch.lengths[longest : longest + 1]
        with torch.autocast(pl_module.device.type, enabled=False):
            reach = gradient_reach(
                pl_module.model, batch.inputs[longest : longest + 1, : int(length)], length
            )
        trainer.logger.log_metrics(self._at_distances(reach), step=trainer.global_step)

    def _at_distances(self, reach: list[Tensor]) -> dict[str, float]:
        values = {}
        for layer, norms in enumerate(reach):
            frame_seconds = self.frame_seconds * round(len(reach[0]) / len(norms))
            for seconds in REACH_SECONDS:
                place = len(norms) - 1 - round(seconds / frame_seconds)
                if place >= 0:
                    share = norms[place] / norms[-1].clamp_min(torch.finfo(norms.dtype).tiny)
                    values[f"reach/layers.{layer}/{seconds:g}s"] = float(share)
        return values
