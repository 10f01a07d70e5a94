"""What `tools/bench_lstm.py` compares: shapes, cases, and the modules that run them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm import kernels as ours
from asr_lstm.lstm.kernels import StepNoise, dense, native, plan_packing, triton_launch, triton_layer
from asr_lstm.lstm.kernels.call import Call, Leaves
from asr_lstm.lstm.kernels.loop import run_loop

OURS, PACKED, DENSE, HASTE, FLASH = "ours", "nn.LSTM packed", "nn.LSTM dense", "haste", "FlashRNN"
# Our kernels: the C++ one, those of a GPU (cuDNN's or Triton's, as the layer asks), and two in plain torch, the second
# of them a loop over time with autograd's backward pass.
NATIVE, CHOSEN, TORCH, LOOP = "native", "cuDNN or Triton", "torch", "time loop"
# How Triton's steps can be launched, whichever of it is chosen, and what of ASR_LSTM_KERNEL asks for it.
LAUNCHES = {
    "Triton, all steps at once": "persistent",
    "Triton, graphs": "graphs",
    "Triton, step by step": "steps",
}
CPU, CUDA = "cpu", "cuda"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
NONE, FULL = "none", "full"

RATE = 0.1
KINDS = (
    "input_dropout",
    "layer_dropout",
    "step_dropout",
    "state_dropout",
    "candidate_dropout",
    "weight_dropout",
    "zoneout_cell",
    "zoneout_state",
)
# Full variational dropout: input, between layers, recurrent state (Gal & Ghahramani 2016).
FULL_KINDS = ("input_dropout", "layer_dropout", "state_dropout")
# The packages of the peers that may be there or not; neither is on the CPU what it is on a GPU.
PACKAGES = {HASTE: "haste_pytorch", FLASH: "flashrnn"}
_DIRECTIONS = 2


@dataclass(frozen=True)
class Shape:
    """A stack of bidirectional layers and a batch for it; lengths are uniform from half of `frames` to all.

    Attributes:
        layers: of the stack.
        hidden: units a direction.
        input: dims of a frame.
        batch: sequences.
        frames: of the longest one.
        device: torch's name of where all of it runs.
    """

    layers: int = 3
    hidden: int = 256
    input: int = 240
    batch: int = 16
    frames: int = 400
    device: str = CPU

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}, input {self.input}, batch {self.batch}, {self.frames} frames"

    def make_batch(self) -> tuple[Tensor, Tensor]:
        """Inputs (batch, frames, input) and lengths (batch,), which the CPU has; the same at each call."""
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(self.batch, self.frames, self.input, generator=generator)
        shortest = max(1, self.frames // 2)
        lengths = torch.randint(shortest, self.frames + 1, (self.batch,), generator=generator)
        lengths[0] = self.frames
        return inputs.to(self.device), lengths

    def operations(self) -> float:
        """Floating-point operations of the matrix products of a training step, over the real frames alone.

        A multiplication and an addition for each weight of W_ih and W_hh and each frame, and twice that on the way
        back: once for the gradient of what was multiplied, once for the weight's.
        """
        outputs = _DIRECTIONS * self.hidden
        sizes = [self.input] + [outputs] * (self.layers - 1)
        weights = sum(_DIRECTIONS * 4 * self.hidden * (size + self.hidden) for size in sizes)
        return 3.0 * 2.0 * weights * int(self.make_batch()[1].sum())


@dataclass(frozen=True)
class Case:
    """One line of the comparison.

    Attributes:
        engine: whose layers.
        kernel: ours are named, of others it is "torch's own" or the package's.
        dtype: float32, or bfloat16 by torch.autocast.
        dropout: "none", "full", or one of `KINDS`.
    """

    engine: str
    kernel: str
    dtype: str = FLOAT32
    dropout: str = NONE

    def __str__(self) -> str:
        return f"{self.engine}, {self.kernel}, {self.dtype}, {self.dropout}"


def reference_cases(device: str = CPU) -> list[Case]:
    """All that runs at the reference shape, the packages beside torch where they are installed."""
    packages = [
        Case(name, "its own") for name, package in PACKAGES.items() if importlib.util.find_spec(package)
    ]
    if device != CPU:
        ours = [Case(OURS, CHOSEN, BFLOAT16, dropout) for dropout in (NONE, FULL, *KINDS)]
        ours.append(Case(OURS, CHOSEN, FLOAT32, FULL))
        others = [Case(OURS, kernel, BFLOAT16, "state_dropout") for kernel in (*LAUNCHES, TORCH, LOOP)]
        return [*ours, *others, *_peers(), *packages]
    ours = [
        Case(OURS, NATIVE, dtype, dropout)
        for dtype in (FLOAT32, BFLOAT16)
        for dropout in (NONE, FULL, *KINDS)
    ]
    plain = [Case(OURS, TORCH, dtype, FULL) for dtype in (FLOAT32, BFLOAT16)]
    # Packed sequences leave the fast path in either type: in bfloat16 a step takes as long.
    return [*ours, *plain, Case(PACKED, "its own", FLOAT32, "layer_dropout"), *_dense(), *packages]


def runs(case: Case, shape: Shape) -> bool:
    """Whether there is a case at that shape: all steps at once take a GPU that has place for them."""
    if case.kernel not in LAUNCHES:
        return True
    plan = plan_packing(shape.make_batch()[1], frames=shape.frames)
    weights = torch.empty(_DIRECTIONS, 4 * shape.hidden, shape.hidden, device=shape.device)
    call = Call(plan, None, StepNoise(), torch.bfloat16)
    leaves = Leaves(weights, weights, weights[..., 0], None, None, None)
    return LAUNCHES[case.kernel] in triton_launch.ways(call, leaves)


def size_cases(device: str = CPU) -> list[Case]:
    """What runs at every other size: on a CPU packed takes minutes a step there."""
    if device != CPU:
        launches = [Case(OURS, kernel, BFLOAT16, "state_dropout") for kernel in (CHOSEN, *LAUNCHES)]
        return [Case(OURS, CHOSEN, BFLOAT16, "weight_dropout"), *launches, *_peers()]
    return [Case(OURS, NATIVE, dtype, FULL) for dtype in (FLOAT32, BFLOAT16)] + _dense()


def _peers() -> list[Case]:
    """torch's own on a GPU; under autocast it takes float16 for either type (ATen's AutocastRNN.cpp)."""
    return [Case(PACKED, "its own", BFLOAT16), Case(DENSE, "its own", BFLOAT16)]


def _dense() -> list[Case]:
    """torch's fused LSTM; without AVX-512 oneDNN has none in bfloat16 and raises."""
    types = (FLOAT32, BFLOAT16) if torch.ops.mkldnn._is_mkldnn_bf16_supported() else (FLOAT32,)
    return [Case(DENSE, "its own", dtype) for dtype in types]


class Engine:
    """A case's layers, ready to run over padded batches."""

    def __init__(self, case: Case, shape: Shape) -> None:
        torch.manual_seed(0)
        self.case, self.device = case, shape.device
        self._module = _MAKERS[case.engine](case, shape).to(shape.device)

    def train_step(self, inputs: Tensor, lengths: Tensor) -> None:
        """A forward and a backward pass, the gradient of the inputs included."""
        self._module.train()
        self._module.zero_grad(set_to_none=True)
        with kernel(self.case):
            self._run(inputs.detach().requires_grad_(), lengths).sum().backward()

    def infer(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The outputs (batch, frames, 2 * hidden) in evaluation, without gradients."""
        self._module.eval()
        with kernel(self.case), torch.inference_mode():
            return self._run(inputs, lengths)

    def _run(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.case.dtype == BFLOAT16):
            outputs: Tensor = self._module(inputs, lengths)
        return outputs


@contextlib.contextmanager
def kernel(case: Case) -> Iterator[None]:
    """Within the block a case's own kernel runs: our plain ones are what serves where the others do not."""
    with contextlib.ExitStack() as stack:
        if case.kernel in LAUNCHES:
            stack.enter_context(mock.patch.dict(os.environ, ASR_LSTM_KERNEL=LAUNCHES[case.kernel]))
        if case.engine == OURS and case.kernel in (TORCH, LOOP):
            for other in (native, dense):
                stack.enter_context(mock.patch.object(other, "usable", return_value=False))
            stack.enter_context(mock.patch.object(triton_layer, "capable", return_value=False))
        if case.kernel == LOOP:
            loop = mock.patch.object(ours, "run_layer", lambda kernel, *arguments: run_loop(*arguments))
            stack.enter_context(loop)
        yield


class Packed(nn.Module):
    """torch's layers over a padded batch by way of packed sequences: right on padding."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, dims) to (batch, frames, outputs)."""
        sequences = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(sequences)[0], batch_first=True, total_length=inputs.shape[1])[0]


class _Dense(nn.Module):
    """Over padding as if it were speech: fast, and wrong for all sequences but the longest."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(inputs)[0]
        return outputs


class _BothWays(nn.Module):
    """Layers of one direction, two side by side, the second over flipped frames, padding included."""

    def __init__(self, make: Callable[[int], nn.Module], shape: Shape) -> None:
        super().__init__()
        sizes = [shape.input] + [_DIRECTIONS * shape.hidden] * (shape.layers - 1)
        self.layers = nn.ModuleList(nn.ModuleList(make(size) for _ in range(_DIRECTIONS)) for size in sizes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        for pair in self.layers:
            forwards, backwards = list(pair.children())
            inputs = torch.cat([forwards(inputs)[0], backwards(inputs.flip(1))[0].flip(1)], dim=2)
        return inputs


class _FlashLayer(nn.Module):
    """FlashRNN's LSTM of one head, whose blocks of recurrent weights are then the whole matrix."""

    def __init__(self, size: int, hidden: int, device: str) -> None:
        super().__init__()
        self.hidden = hidden
        # "vanilla" is what of it runs on a CPU.
        self.way = {"backend": "vanilla", "dtype": FLOAT32}
        if device != CPU:
            self.way = {"backend": "cuda_fused", "dtype": BFLOAT16}
        self.inputs = nn.Linear(size, 4 * hidden, bias=False)
        self.recurrent = nn.Parameter(torch.randn(4, 1, hidden, hidden) / hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(4, 1, hidden))
        self.run = importlib.import_module(PACKAGES[FLASH]).flashrnn

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        products = self.inputs(inputs).view(*inputs.shape[:2], 4, 1, self.hidden)
        states, _ = self.run(products, self.recurrent, self.bias, function="lstm", **self.way)
        return states[0].flatten(2), None


def _make_ours(case: Case, shape: Shape) -> nn.Module:
    kinds = {NONE: (), FULL: FULL_KINDS}.get(case.dropout, (case.dropout,))
    rates = {kind: RATE for kind in kinds}
    return VariationalLSTM(shape.input, shape.hidden, layers=shape.layers, **rates)  # type: ignore[arg-type]


def _torch_lstm(case: Case, shape: Shape) -> nn.LSTM:
    return nn.LSTM(
        shape.input,
        shape.hidden,
        num_layers=shape.layers,
        dropout=RATE if case.dropout == "layer_dropout" and shape.layers > 1 else 0.0,
        bidirectional=True,
        batch_first=True,
    )


def _make_haste(case: Case, shape: Shape) -> nn.Module:
    haste = importlib.import_module(PACKAGES[HASTE])
    return _BothWays(lambda size: haste.LSTM(size, shape.hidden, batch_first=True), shape)


_MAKERS: dict[str, Callable[[Case, Shape], nn.Module]] = {
    OURS: _make_ours,
    PACKED: lambda case, shape: Packed(_torch_lstm(case, shape)),
    DENSE: lambda case, shape: _Dense(_torch_lstm(case, shape)),
    HASTE: _make_haste,
    FLASH: lambda case, shape: _BothWays(lambda size: _FlashLayer(size, shape.hidden, shape.device), shape),
}
