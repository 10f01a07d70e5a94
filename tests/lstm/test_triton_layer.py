"""The Triton kernel: under its interpreter against the equations, compiled without a GPU, and on one."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lstm_reference import by_cell, leaves, make_arguments, make_inputs, pull
from torch import Tensor
from triton_compiled import FRAMES, Recorder, make_call, make_norm, run_call
from triton_interpreted import CASES

from asr_lstm.lstm.kernels import CellNorm, triton_launch, triton_layer, triton_norm
from asr_lstm.lstm.kernels.call import Result
from asr_lstm.lstm.kernels.loop import run_loop
from asr_lstm.lstm.kernels.triton_launch import GRAPH_STEPS, GRAPHS, ONE_BY_ONE, PERSISTENT, Launch, ways
from asr_lstm.lstm.kernels.triton_layer import choose_launch, run_launched

FOLDER = Path(__file__).parent
HELD = Launch(units=16, tile=16, held=True, at_once=True)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What the kernel gives for each of CASES."""
    pytest.importorskip("triton")
    path = tmp_path_factory.mktemp("triton") / "found.pt"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{FOLDER}:{FOLDER.parents[1]}"}
    environment.pop("ASR_LSTM_KERNEL", None)
    command = [sys.executable, "-W", "ignore", str(FOLDER / "triton_interpreted.py"), str(path)]
    done = subprocess.run(command, env=environment, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Tensor]] = torch.load(path)
    return found


def test_interpreted_it_is_proved_and_a_wrong_one_is_not(
    interpreted: dict[str, dict[str, Tensor]],
) -> None:
    assert {name: bool(value) for name, value in interpreted["proofs"].items()} == {
        "persistent": True,
        "graphs": True,
        "steps": True,
        "normalised": True,
        "wrong": False,
    }


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


@pytest.mark.parametrize(
    ("hidden", "batch", "kind", "expected"),
    [
        (512, 64, torch.bfloat16, dataclasses.replace(HELD, tile=32, piece=128, slices=2)),
        (512, 8, torch.bfloat16, dataclasses.replace(HELD, tile=16, piece=256, slices=1)),
        (1024, 64, torch.bfloat16, dataclasses.replace(HELD, tile=32, piece=128, slices=1)),
        (1040, 64, torch.bfloat16, None),  # its programs are too many, and too large
        (512, 64, torch.float32, None),
        (20, 64, torch.float32, dataclasses.replace(HELD, units=32, piece=16, slices=4)),
    ],
)
def test_as_many_programs_as_run_at_once_or_steps_one_by_one(
    hidden: int, batch: int, kind: torch.dtype, expected: Launch | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, leaves = make_call("state mask", hidden=hidden, batch=batch, kind=kind, device="cpu")
    monkeypatch.setattr(triton_launch, "_chip", lambda device: (132, 232448))  # an H100's
    found = ways(call, leaves)
    assert found.get(PERSISTENT) == expected
    assert list(found)[-2:] == [GRAPHS, ONE_BY_ONE]


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """What it takes to compile for a GPU, which needs none, and finds what the interpreter lets pass."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton_launch, "_chip", lambda device: (132, 232448))
    return monkeypatch


@pytest.mark.parametrize("way", [ONE_BY_ONE, PERSISTENT])
@pytest.mark.parametrize("name", ["forward_steps", "backward_steps"])
def test_it_compiles_for_a_gpu(name: str, way: str, compiling: pytest.MonkeyPatch) -> None:
    """The memory is what `ways` counts on."""
    from asr_lstm.lstm.kernels import triton_steps

    persistent = way == PERSISTENT
    # Without gates that are coupled it holds the most.
    compiled = compile_one(
        name,
        triton_steps,
        compiling,
        way=way,
        variant="all that is native, uncoupled" if persistent else "all that is native",
    )
    assert compiled.metadata.launch_cooperative_grid == persistent
    assert (".acquire." in compiled.asm["ptx"]) == persistent
    assert (".release." in compiled.asm["ptx"]) == persistent
    assert compiled.metadata.shared <= (4 * 16 * 256 + 16 * 8 * 128) * 2


@pytest.mark.parametrize("variant", ["state mask", "all that is native, uncoupled"])
@pytest.mark.parametrize("name", ["forward_replayed", "backward_replayed"])
def test_what_a_graph_replays_compiles_for_a_gpu(
    name: str, variant: str, compiling: pytest.MonkeyPatch
) -> None:
    """With loads as wide as where Triton sees that addresses are aligned, which a table does not tell it."""
    from asr_lstm.lstm.kernels import triton_replayed_steps, triton_steps

    seen = compile_one(
        name.replace("replayed", "steps"), triton_steps, compiling, way=ONE_BY_ONE, variant=variant
    )
    compiled = compile_one(name, triton_replayed_steps, compiling, way=GRAPHS, variant=variant)
    widest = [
        max(map(int, re.findall(r"(?:cp\.async|ld\.global).*?\.v(\d)", kernel.asm["ptx"])))
        for kernel in (seen, compiled)
    ]
    assert widest[0] == widest[1]


def compile_one(name: str, module: ModuleType, patch: pytest.MonkeyPatch, *, way: str, variant: str) -> Any:
    """A kernel of a module, compiled as a layer of 256 launches it."""
    call, leaves = make_call(variant, hidden=256, batch=4, kind=torch.bfloat16, device="cpu")
    pair = ("forward", "backward")
    ending = name.partition("_")[2]
    kernels = {f"{way}_{ending}": Recorder(patch, module, f"{way}_{ending}") for way in pair}
    run = functools.partial(run_launched, ways(call, leaves)[way])
    run_call(run, call, leaves, torch.zeros(len(call.plan.frame), 40))
    return kernels[name].compile()


@pytest.mark.parametrize("name", ["forward_norm_step", "backward_norm_step"])
def test_a_normalised_step_compiles_for_a_gpu(name: str, compiling: pytest.MonkeyPatch) -> None:
    from asr_lstm.lstm.kernels import triton_norm_steps

    call, leaves = make_call("zoneout", hidden=320, batch=4, kind=torch.bfloat16, device="cpu")
    kernels = {
        kind: Recorder(compiling, triton_norm_steps, kind)
        for kind in ("forward_norm_step", "backward_norm_step")
    }
    norm = make_norm(leaves.weight_hh)
    run_call(triton_norm.run_norm, call, leaves, torch.zeros(len(call.plan.frame), 40), norm)
    assert "bf16" in kernels[name].compile().asm["ptx"]


def assert_exact_and_repeatable(
    run: Callable[..., Result],
    variant: str,
    *,
    hidden: int,
    kind: torch.dtype,
    frames: int = FRAMES,
    norm: Callable[[Tensor], CellNorm | None] = lambda like: None,
) -> None:
    """On a GPU: the loop in double, within what the type rounds, and a hundred times the same bits."""
    sizes = {"hidden": hidden, "batch": 37, "frames": frames, "device": "cuda"}
    call, leaves = make_call(variant, kind=kind, **sizes)
    rows = torch.randn(len(call.plan.frame), 40, device="cuda")
    exact_call, exact_leaves = make_call(variant, kind=torch.double, dtype=torch.double, **sizes)
    exact = run_call(run_loop, exact_call, exact_leaves, rows.double(), norm(exact_leaves.weight_hh))
    found = run_call(run, call, leaves, rows, norm(leaves.weight_hh))
    assert found.keys() == exact.keys()
    for name, value in found.items():
        error = float((value.double() - exact[name]).norm() / exact[name].norm())
        assert error < (1e-5 if kind == torch.float32 else 0.05), f"{name}: {error}"
    for _ in range(100):
        again = run_call(run, call, leaves, rows, norm(leaves.weight_hh))
        assert all(torch.equal(value, again[name]) for name, value in found.items())


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or not triton_layer.capable(torch.zeros(1, device="cuda")),
    reason="needs a CUDA device that multiplies bfloat16, Triton and a C compiler",
)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [ONE_BY_ONE, GRAPHS, PERSISTENT])
@pytest.mark.parametrize("hidden", [256, 512, 1024])
@pytest.mark.parametrize("variant", ["state mask", "all that is native", "all that is native, uncoupled"])
def test_on_a_gpu_it_is_the_loop_in_double_and_always_the_same(
    variant: str, hidden: int, way: str, kind: torch.dtype, exact_products: None, poisoned: None
) -> None:
    call, leaves = make_call(variant, hidden=hidden, batch=37, kind=kind, device="cuda")
    if (launch := ways(call, leaves).get(way)) is None:
        pytest.skip("not all steps at once: in float32, or on a GPU of few or small processors")
    run = functools.partial(run_launched, launch)
    assert_exact_and_repeatable(run, variant, hidden=hidden, kind=kind)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_a_graph_is_played_again_until_no_step_is_left(exact_products: None, poisoned: None) -> None:
    frames = 2 * GRAPH_STEPS + 3
    call, leaves = make_call(
        "state mask", hidden=256, batch=37, frames=frames, kind=torch.float, device="cuda"
    )
    run = functools.partial(run_launched, ways(call, leaves)[GRAPHS])
    assert_exact_and_repeatable(run, "state mask", hidden=256, kind=torch.float, frames=frames)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("kind", "way"), [(torch.bfloat16, PERSISTENT), (torch.float32, GRAPHS)])
def test_on_a_gpu_the_fastest_way_proves_itself(
    kind: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    for variant in ("state mask", "all that is native"):
        call, leaves = make_call(variant, hidden=256, batch=37, kind=kind, device="cuda")
        assert str(choose_launch(call, leaves)) == way
    assert triton_norm.usable(call, leaves._replace(peepholes=None))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", [256, 320, 1024])
@pytest.mark.parametrize("variant", ["plain", "state mask", "coupled gates", "zoneout"])
def test_on_a_gpu_normalised_it_is_the_loop_in_double_too(
    variant: str, hidden: int, kind: torch.dtype, exact_products: None, poisoned: None
) -> None:
    run = triton_norm.run_norm
    assert_exact_and_repeatable(run, variant, hidden=hidden, kind=kind, norm=make_norm)
