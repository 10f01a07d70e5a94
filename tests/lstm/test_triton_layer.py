"""The Triton kernel: under its interpreter against the equations, compiled without a GPU, and on one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lstm_reference import VARIANTS, by_cell, converted, leaves, make_arguments, make_inputs, pull
from torch import Tensor
from triton_interpreted import CASES

from asr_lstm.lstm.kernels import plan_packing, triton_layer
from asr_lstm.lstm.kernels.autograd import run_layer
from asr_lstm.lstm.kernels.call import Call, Leaves, ResultGradients
from asr_lstm.lstm.kernels.loop import run_loop
from asr_lstm.lstm.kernels.triton_layer import Launch, choose_launch

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What the kernel gives for each of CASES."""
    pytest.importorskip("triton")
    path = tmp_path_factory.mktemp("triton") / "found.pt"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(FOLDER)}
    environment.pop("ASR_LSTM_KERNEL", None)
    command = [sys.executable, "-W", "ignore", str(FOLDER / "triton_interpreted.py"), str(path)]
    done = subprocess.run(command, env=environment, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Tensor]] = torch.load(path)
    return found


@pytest.mark.parametrize("name", CASES)
def test_interpreted_it_is_the_cell_run_over_each_sequence(
    name: str, interpreted: dict[str, dict[str, Tensor]]
) -> None:
    case, batch = CASES[name], len(CASES[name].lengths)
    arguments = make_arguments(case.parts, directions=case.directions, batch=batch, hidden=case.hidden)
    given, tensors = leaves(arguments)
    tensors["inputs"] = make_inputs(batch, max(case.lengths)).requires_grad_()
    outcome = by_cell(tensors["inputs"], case.lengths, given)
    pull(outcome).backward()
    expected = dict(zip(("outputs", "final states", "final cells"), outcome, strict=True))
    expected |= {f"gradient of {name}": value.grad for name, value in tensors.items()}
    assert interpreted[name].keys() == expected.keys()
    for part, value in interpreted[name].items():
        tolerance = 2e-6 if not part.startswith("gradient") else 3e-5
        torch.testing.assert_close(
            value.double(),
            expected[part].detach(),
            rtol=1e-5,
            atol=tolerance,
            msg=lambda text, part=part: f"{part}: {text}",
        )


def make_call(
    variant: str, *, hidden: int, batch: int, kind: torch.dtype, device: str, dtype: torch.dtype = torch.float
) -> tuple[Call, Leaves]:
    """A layer of two directions and the call of it, lengths from half of 24 frames to all of them."""
    arguments = make_arguments(VARIANTS[variant], directions=2, batch=batch, dims=40, hidden=hidden)
    arguments = converted(arguments, dtype)
    lengths = torch.randint(12, 25, (batch,), generator=torch.Generator().manual_seed(hidden))
    plan = plan_packing(lengths, frames=24, device=device)

    def given(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    states = arguments.get("states", (None, None))
    call = Call(plan, given(arguments.get("state_mask")), arguments["noise"], kind)
    names = ("weight_ih", "weight_hh", "bias", "peepholes")
    return call, Leaves(*(given(arguments.get(name)) for name in names), *map(given, states))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hidden", "batch", "kind", "expected"),
    [
        (512, 64, torch.bfloat16, Launch(units=16, tile=16, held=True, at_once=True, slices=2)),
        (512, 8, torch.bfloat16, Launch(units=16, tile=16, held=True, at_once=True, slices=1)),
        (1024, 64, torch.bfloat16, Launch(units=16, tile=16, held=True, at_once=True, slices=1)),
        (1040, 64, torch.bfloat16, Launch(units=16, tile=32)),  # its programs are too many, and too large
        (512, 64, torch.float32, Launch(units=16, tile=32)),
        (20, 64, torch.float32, Launch(units=32, tile=16, held=True, at_once=True, slices=4)),
    ],
)
def test_as_many_programs_as_run_at_once_or_steps_one_by_one(
    hidden: int, batch: int, kind: torch.dtype, expected: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, leaves = make_call("state mask", hidden=hidden, batch=batch, kind=kind, device="cpu")
    monkeypatch.setattr(triton_layer, "_chip", lambda device: (132, 232448))  # an H100's
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    assert choose_launch(call, leaves) == Launch(units=16, tile=32)
    monkeypatch.setenv("ASR_LSTM_KERNEL", "persistent")
    assert choose_launch(call, leaves) == expected


@pytest.mark.parametrize("persistent", [False, True], ids=["step by step", "at once"])
@pytest.mark.parametrize("name", ["forward_steps", "backward_steps"])
def test_it_compiles_for_a_gpu(
    name: str, persistent: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which needs none, and finds what the interpreter lets pass; the memory is what `choose_launch` counts on."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    monkeypatch.setattr(triton_layer, "_chip", lambda device: (132, 232448))
    if persistent:
        monkeypatch.setenv("ASR_LSTM_KERNEL", "persistent")
    variant = "all that is native, uncoupled" if persistent else "all that is native"
    call, leaves = make_call(variant, hidden=256, batch=4, kind=torch.bfloat16, device="cpu")
    rows = torch.zeros(len(call.plan.frame), 40)
    forward, backward = (Recorder(monkeypatch, name) for name in ("forward_steps", "backward_steps"))
    result, kept = triton_layer.forward(call, leaves, rows, keep=True)
    triton_layer.backward(call, leaves, kept, ResultGradients(*result), need_rows=True)
    compiled = (forward if name == "forward_steps" else backward).compile()
    assert compiled.metadata.launch_cooperative_grid == persistent
    assert (".acquire." in compiled.asm["ptx"]) == persistent
    assert (".release." in compiled.asm["ptx"]) == persistent
    assert compiled.metadata.shared <= (4 * 16 + 16) * 256 * 2


class Recorder:
    """Stands for a kernel: keeps what it is first launched with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        from asr_lstm.lstm.kernels import triton_steps

        self.kernel = getattr(triton_steps, name)
        self.given: dict[str, Any] = {}
        monkeypatch.setattr(triton_steps, name, self)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self.launch

    def launch(self, *args: Any, **settings: Any) -> None:
        self.given = self.given or dict(zip(self.kernel.arg_names, args, strict=False)) | settings

    def compile(self) -> Any:
        """For an H100, as Triton would with a GPU at hand."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names = list(self.kernel.arg_names)
        assert set(names) <= set(self.given)
        types, constants, aligned = {}, {}, {}
        for place, name in enumerate(names):
            value = self.given[name]
            if value is None or name.isupper():
                types[name], constants[(place,)] = "constexpr", value
            else:
                types[name] = triton.runtime.jit.mangle_type(value)
            if isinstance(value, Tensor):
                aligned[(place,)] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, types, constants, aligned)
        options = {name: self.given[name] for name in ("num_warps", "launch_cooperative_grid")}
        return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New memory is filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


def run_call(kernel: Any, call: Call, leaves: Leaves, rows: Tensor) -> dict[str, Tensor]:
    """Outputs and the gradients of everything, by name; the loop where no kernel is given."""
    tensors = {name: tensor for name, tensor in leaves._asdict().items() if tensor is not None} | {
        "rows": rows
    }
    tensors = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    rows = tensors["rows"]
    given = Leaves(*(tensors.get(name) for name in Leaves._fields))  # type: ignore[arg-type]
    outcome = run_loop(call, given, rows) if kernel is None else run_layer(kernel, call, given, rows)
    pulled = torch.randn(outcome.outputs.shape, generator=torch.Generator().manual_seed(5)).to(rows)
    ((outcome.outputs * pulled).sum() + outcome.states.sum() + outcome.cells.sum()).backward()
    found = dict(zip(("outputs", "final states", "final cells"), outcome, strict=True))
    found |= {f"gradient of {name}": tensor.grad for name, tensor in tensors.items()}
    return {name: value.detach() for name, value in found.items()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["float32", "bfloat16", "bfloat16 at once"])
@pytest.mark.parametrize("hidden", [256, 512, 1024])
@pytest.mark.parametrize("variant", ["state mask", "all that is native", "all that is native, uncoupled"])
def test_on_a_gpu_it_is_the_loop_in_double_and_always_the_same(
    variant: str, hidden: int, how: str, monkeypatch: pytest.MonkeyPatch, poisoned: None
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setenv("ASR_LSTM_KERNEL", "persistent" if how.endswith("at once") else "")
    kind = torch.float32 if how == "float32" else torch.bfloat16
    call, leaves = make_call(variant, hidden=hidden, batch=37, kind=kind, device="cuda")
    if not triton_layer.usable(leaves.weight_hh):
        pytest.skip("this GPU does not multiply in that type")
    if choose_launch(call, leaves).at_once != how.endswith("at once"):
        pytest.skip("this GPU has too few processors, or too little memory in them, for all steps at once")
    rows = torch.randn(len(call.plan.frame), 40, device="cuda")
    exact_call, exact_leaves = make_call(
        variant, hidden=hidden, batch=37, kind=torch.double, device="cuda", dtype=torch.double
    )
    exact = run_call(None, exact_call, exact_leaves, rows.double())
    found = run_call(triton_layer, call, leaves, rows)
    assert found.keys() == exact.keys()
    for name, value in found.items():
        error = float((value.double() - exact[name]).norm() / exact[name].norm())
        assert error < (1e-5 if kind == torch.float32 else 0.04), f"{name}: {error}"
    for _ in range(100):
        again = run_call(triton_layer, call, leaves, rows)
        assert all(torch.equal(value, again[name]) for name, value in found.items())
