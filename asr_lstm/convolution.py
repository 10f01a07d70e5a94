"""A small convolution before the LSTM layers, in place of frames that are joined side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from asr_lstm.features import mask_padding
from asr_lstm.lstm import States, VariationalLSTM
from asr_lstm.lstm.kernels.rows import put_rows, take_rows

_KERNEL = 3
# Frames made one by the first and by the second layer: beyond a kernel's length some would not be heard.
_STRIDES = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 6: (3, 2), 9: (3, 3)}
_WHOLE = (
    "states are for sequences in pieces, which a convolution does not hear; leave encoder.convolution out"
)


def time_strides(stack: int) -> tuple[int, int]:
    """The strides in time of the two layers that make one frame of `stack`.

    Raises:
        ValueError: two layers cannot.
    """
    if stack not in _STRIDES:
        raise ValueError(
            f"features.stack must be one of {', '.join(map(str, _STRIDES))} with encoder.convolution, not {stack}"
        )
    return _STRIDES[stack]


class ResidualBlock(nn.Module):
    """What two layers of 3 x 3 convolution add to what they hear, which begins with nothing.

    What the channels hear at a place is normalised before them. Source: He et al. 2016, "Identity Mappings in Deep
    Residual Networks" (arXiv 1603.05027), equation 1 and section 4, of whose two normalisations the first is kept.
    The last weights are zero at first, after Goyal et al. 2017 (arXiv 1706.02677), section 5.1. With random ones CTC
    learned nothing in 700 updates, nor did it in eight blocks where each frame was normalised as a whole.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Conv2d(channels, channels, _KERNEL, padding=1)
        self.second = nn.Conv2d(channels, channels, _KERNEL, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(cast("Tensor", self.second.bias))

    def forward(self, maps: Tensor, inside: Tensor) -> Tensor:
        """(batch, channels, frames, bands) to the same; `inside` (batch, 1, frames, 1) is 0 in the padding, else 1.

        What stands in the padding is of no use, but must be finite: products cost a tenth of `masked_fill`.
        """
        normed = self.norm(_in_full(maps.permute(0, 2, 3, 1))).to(maps.dtype).permute(0, 3, 1, 2)
        heard = self.first(normed.mul_(inside)).mul_(inside).relu_()
        added: Tensor = self.second(heard)
        return maps + added


class Convolution(nn.Module):
    """Two layers of 3 x 3 convolution over time and bands, each with ReLU and half the bands of before; then blocks.

    They take apart the frames that the front end joined, and make one frame of as many: lengths stay as they are, and
    so do times. The last step normalises each frame by itself (Ba et al. 2016, arXiv 1607.06450, equation 3), so that
    neither padding nor the rest of the batch matters. Source: Amodei et al. 2016, "Deep Speech 2" (arXiv 1512.02595),
    section 3.5, with the small kernels that are cheap on a CPU.

    Args:
        dims: of a joined frame.
        channels: of each layer.
        stack: frames that were joined, 1, 2, 3, 4, 6 or 9.
        blocks: how many times a `ResidualBlock` follows, with a ReLU after the last.

    Attributes:
        middle_size: numbers for each joined frame between the two layers.
        output_size: dims of a frame that comes out.
    """

    def __init__(self, dims: int, channels: int, *, stack: int, blocks: int = 0) -> None:
        super().__init__()
        first, second = time_strides(stack)
        self.stack = stack
        halved = -(-(dims // stack) // 2)
        self.middle_size = channels * halved * (stack // first)
        self.output_size = channels * -(-halved // 2)
        self.first = nn.Conv2d(1, channels, _KERNEL, (first, 2), padding=1)
        self.second = nn.Conv2d(channels, channels, _KERNEL, (second, 2), padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(self.output_size)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, dims) and (batch,) to (batch, frames, output_size), zeros in the padding.

        Beyond the ends of a sequence there are zeros for both layers, whatever stands there.
        """
        batch, frames, _ = features.shape
        # One sequence after the other, a frame of zeros after each, as a strip of one of few lengths: torch compiles
        # convolutions anew for each shape that it has not met, and no two batches are alike.
        step, sequence_lengths = torch.arange(frames + 1), lengths.cpu()[:, None]
        places = (step <= sequence_lengths).flatten().nonzero()[:, 0]
        within = (step < sequence_lengths).flatten()[places]
        strip = round_up(len(places))
        padded = nn.functional.pad(mask_padding(features, lengths), (0, 0, 0, 1)).flatten(0, 1)
        row = take_rows(padded, places.to(features.device))
        row = nn.functional.pad(row, (0, 0, 0, strip - len(row)))
        single = row.reshape(1, strip * self.stack, -1, 1)
        inside = nn.functional.pad(within, (0, strip - len(within))).to(features)
        # Channels stand last in memory throughout: a CPU takes half the time so, forward and backward.
        middle: Tensor = self.first(single.permute(0, 3, 1, 2))
        # In place, and before the ReLU: then one copy of these numbers is kept for the backward pass.
        last: Tensor = self.second(middle.mul_(_of_maps(inside, middle)).relu_()).relu_()
        if self.blocks:
            of_last = _of_maps(inside, last)
            for block in self.blocks:
                last = block(last, of_last)
            last = last.relu_()
        found = last.permute(0, 2, 3, 1).flatten(2)[0]
        heard = within.nonzero()[:, 0]
        normed: Tensor = self.norm(_in_full(take_rows(found, heard.to(found.device))))
        slots = places[heard] - places[heard] // (frames + 1)
        return put_rows(normed, slots.to(found.device), size=batch * frames).view(
            batch, frames, self.output_size
        )


def _of_maps(inside: Tensor, maps: Tensor) -> Tensor:
    """(frames,), 1 in sequences and 0 between them, to (1, 1, frames of the maps, 1)."""
    return inside.to(maps.dtype).repeat_interleave(maps.shape[2] // len(inside))[None, None, :, None]


def _in_full(numbers: Tensor) -> Tensor:
    """In float32 what is of less, for a normalisation.

    Of bfloat16 torch sums up the gradients of its gain and bias in bfloat16 on a CPU: over 20 000 places they were
    wrong by a third to two thirds of their norm.
    """
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def round_up(size: int) -> int:
    """To a number of four binary digits and zeros, at most an eighth more; up to sixteen as it is."""
    unit = 1 << max(0, size.bit_length() - 4)
    return -(-size // unit) * unit


class ConvolvedLSTM(VariationalLSTM):
    """A stack of LSTM layers that hears its inputs through a `Convolution`.

    Args:
        input_size: dims of the input.
        hidden_size: of each direction of each layer.
        channels: of the convolution.
        stack: frames that were joined into one of the input.
        blocks: of the convolution.
        **options: of `VariationalLSTM`.

    Raises:
        ValueError: as there, or two layers cannot make one frame of `stack`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, channels: int, stack: int, blocks: int = 0, **options: Any
    ) -> None:
        convolution = Convolution(input_size, channels, stack=stack, blocks=blocks)
        super().__init__(convolution.output_size, hidden_size, **options)
        self.convolution = convolution

    def forward(self, inputs: Tensor, lengths: Tensor, *, states: States | None = None) -> Tensor:
        """As `VariationalLSTM.forward`, without states."""
        if states is not None:
            raise ValueError(_WHOLE)
        return super().forward(self.convolution(inputs, lengths), lengths)

    def forward_with_layer(
        self, inputs: Tensor, lengths: Tensor, *, layer: int, feed: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `VariationalLSTM.forward_with_layer`."""
        return super().forward_with_layer(self.convolution(inputs, lengths), lengths, layer=layer, feed=feed)

    def forward_with_states(
        self, inputs: Tensor, lengths: Tensor | None = None, *, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Refused: a convolution hears the frames on either side."""
        raise ValueError(_WHOLE)
