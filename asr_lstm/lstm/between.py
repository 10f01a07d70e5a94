"""What stands between the layers of a stack: shortcuts past a layer, and fewer frames for the next one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr_lstm.lstm.kernels import PackingPlan
from asr_lstm.lstm.kernels.rows import put_rows, take_rows

SHORTCUTS = ("none", "residual", "highway")
REDUCTIONS = ("concat", "take")
# Srivastava et al. 2015, section 2: a highway begins by carrying its input past the layer.
CARRY_BIAS = -1.0


class Shortcut(nn.Module):
    """A way past a layer, from its input x (after dropout) to its output y, of the same size.

    "residual" is x + y (He et al. 2016; between LSTM layers Wu et al. 2016, arXiv 1609.08144, section 3.1);
    "highway" is g * y + (1 - g) * x with g = sigmoid(W x + b) (Srivastava, Greff & Schmidhuber 2015,
    arXiv 1505.00387, equation 3); "none" is y.

    Args:
        kind: "none", "residual" or "highway".
        size: dims of x and y.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        if kind not in SHORTCUTS:
            raise ValueError(f"shortcut must be one of {', '.join(SHORTCUTS)}, not {kind!r}")
        self.kind = kind
        self.gate: nn.Linear | None = None
        if kind == "highway":
            self.gate = nn.Linear(size, size)
            nn.init.constant_(self.gate.bias, CARRY_BIAS)

    def forward(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """(rows, size) of both to (rows, size)."""
        if self.gate is not None:
            return torch.lerp(inputs, outputs, torch.sigmoid(self.gate(inputs)).to(inputs.dtype))
        return inputs + outputs if self.kind == "residual" else outputs

    def extra_repr(self) -> str:
        """The kind, for print(module)."""
        return f"kind={self.kind}"


class TimeReduction(nn.Module):
    """Make one frame of every `factor`: the next layer runs over fewer.

    Source: the pyramid of Chan et al. 2016, "Listen, Attend and Spell" (arXiv 1508.01211), equation 5, for
    "concat": frames side by side, the last ones of a sequence filled up with zeros. "take" takes the first frame
    of every `factor`. A sequence of n frames has n / factor after it, rounded up.

    Args:
        factor: 1 leaves everything as it is.
        kind: "concat" or "take".
    """

    def __init__(self, factor: int, kind: str) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"time_reduction must hold numbers of at least 1, not {factor}")
        if kind not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {kind!r}")
        self.factor = factor
        self.kind = kind

    def width(self, size: int) -> int:
        """Dims after it for `size` before."""
        return size * self.factor if self.kind == "concat" else size

    def forward(self, rows: Tensor, plan: PackingPlan) -> tuple[Tensor, PackingPlan]:
        """(rows, dims) to (fewer rows, width), with the plan that these are packed by."""
        if self.factor == 1:
            return rows, plan
        reduced = plan.reduced(self.factor)
        if self.kind == "take":
            return take_rows(rows, (plan.step % self.factor == 0).nonzero()[:, 0]), reduced
        starts = reduced.starts.to(rows.device)
        slot = (starts[plan.step // self.factor] + plan.sequence) * self.factor + plan.step % self.factor
        whole = put_rows(rows, slot, size=len(reduced.frame) * self.factor)
        return whole.view(len(reduced.frame), -1), reduced

    def extra_repr(self) -> str:
        """Factor and kind, for print(module)."""
        return f"factor={self.factor}, kind={self.kind}"
