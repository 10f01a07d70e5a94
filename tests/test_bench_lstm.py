from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch

from asr_lstm.lstm import VariationalLSTM
from asr_lstm.lstm.kernels import StepNoise, native, plan_packing, triton_launch, triton_layer
from asr_lstm.lstm.kernels.call import Call, Leaves

pytestmark = pytest.mark.usefixtures("tools_path")


@pytest.fixture
def engines() -> ModuleType:
    return importlib.import_module("bench_engines")


@pytest.fixture
def measure() -> ModuleType:
    return importlib.import_module("bench_measure")


@pytest.fixture
def results() -> ModuleType:
    return importlib.import_module("bench_results")


@pytest.fixture
def bench() -> ModuleType:
    return importlib.import_module("bench_lstm")


def test_operations_are_those_of_the_products_counted_by_torch(engines: ModuleType) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape = engines.Shape(layers=2, hidden=5, input=3, batch=1, frames=7)
    stack = VariationalLSTM(3, 5, layers=2)
    inputs, lengths = shape.make_batch()
    counter = FlopCounterMode(display=False)
    engine = engines.Engine(engines.Case(engines.OURS, engines.TORCH), shape)
    with counter:
        engine.train_step(inputs, lengths)
    assert stack.output_size == 10
    # Each step of the backward loop multiplies by W_hh, the first of them to no use.
    assert shape.operations() == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_reference_shape_is_that_of_the_aims(engines: ModuleType) -> None:
    inputs, lengths = engines.Shape().make_batch()
    assert inputs.shape == (16, 400, 240)
    assert (int(lengths.max()), int(lengths.min()) >= 200) == (400, True)
    assert engines.Shape().operations() == pytest.approx(120e9, rel=0.05)


def test_every_kind_of_dropout_is_timed_in_both_types(engines: ModuleType) -> None:
    cases = set(engines.reference_cases())
    for dtype in ("float32", "bfloat16"):
        for dropout in ("none", "full", *engines.KINDS):
            assert engines.Case("ours", "native", dtype, dropout) in cases
        assert engines.Case("ours", "torch", dtype, "full") in cases
    assert {"nn.LSTM packed", "nn.LSTM dense"} <= {case.engine for case in cases}


def test_engines_run_what_they_are_named(engines: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed and ours are one function of the same weights; the kernel in plain torch is not the C++ one."""
    shape = engines.Shape(layers=2, hidden=4, input=3, batch=3, frames=6)
    inputs, lengths = shape.make_batch()
    packed = engines.Engine(engines.Case(engines.PACKED, "its own"), shape)
    ran: list[str] = []
    forward = native.forward
    monkeypatch.setattr(native, "forward", lambda *a, **k: (ran.append("native"), forward(*a, **k))[1])
    for kernel in (engines.NATIVE, engines.TORCH):
        ran.clear()
        ours = engines.Engine(engines.Case(engines.OURS, kernel, engines.FLOAT32, engines.FULL), shape)
        ours._module.load_state_dict(VariationalLSTM.from_torch(packed._module.lstm).state_dict())
        torch.testing.assert_close(ours.infer(inputs, lengths), packed.infer(inputs, lengths))
        assert bool(ran) == (kernel == engines.NATIVE and native.usable(torch.zeros(1)))
        ours.train_step(inputs, lengths)
        assert ours._module.training
    assert inputs.grad is None
    for case in engines.reference_cases():
        assert engines.Engine(case, shape).infer(inputs, lengths).shape == (3, 6, 8)


def test_other_packages_are_run_where_they_are_installed(
    engines: ModuleType, bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line.partition(":")[0] for line in bench.missing([])[:2]] == ["haste", "FlashRNN"]

    class Layer(torch.nn.LSTM):
        def __init__(self, size: int, hidden: int, batch_first: bool) -> None:
            super().__init__(size, hidden, batch_first=batch_first)

    fake = ModuleType("haste_pytorch")
    fake.LSTM = Layer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "haste_pytorch", fake)
    shape = engines.Shape(layers=2, hidden=4, input=3, batch=2, frames=5)
    engine = engines.Engine(engines.Case(engines.HASTE, "its own"), shape)
    inputs, lengths = shape.make_batch()
    dense = engines.Engine(engines.Case(engines.DENSE, "its own"), shape)
    own, theirs = dict(engine._module.named_parameters()), dict(dense._module.lstm.named_parameters())
    with torch.no_grad():
        for name, value in own.items():
            _, layer, way, rest = name.split(".")
            value.copy_(theirs[rest.replace("l0", f"l{layer}") + ("_reverse" if way == "1" else "")])
    torch.testing.assert_close(engine.infer(inputs, lengths), dense.infer(inputs, lengths))


def test_on_a_gpu_torchs_own_and_a_time_loop_stand_beside_every_kind(engines: ModuleType) -> None:
    cases = engines.reference_cases("cuda")
    ours = {case.dropout for case in cases if (case.kernel, case.dtype) == (engines.CHOSEN, engines.BFLOAT16)}
    assert ours == {"none", "full", *engines.KINDS}
    assert engines.Case(engines.OURS, engines.LOOP, engines.BFLOAT16, "state_dropout") in cases
    assert engines.Case(engines.PACKED, "its own", engines.BFLOAT16) in engines.size_cases("cuda")


def test_each_way_to_launch_is_asked_for_as_users_ask(
    engines: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_launch, "_chip", lambda device: (132, 232448))
    monkeypatch.setattr(triton_layer, "capable", lambda weights: True)
    monkeypatch.setattr(triton_layer, "proved", lambda *given, steps: True)
    monkeypatch.delenv("ASR_LSTM_KERNEL", raising=False)
    for hidden, there in ((512, True), (1040, False)):  # whose programs are too many to run at once
        shape = engines.Shape(hidden=hidden, batch=2, frames=3)
        case = engines.Case(engines.OURS, "Triton, all steps at once", engines.BFLOAT16, "state_dropout")
        assert engines.runs(case, shape) == there
    plan = plan_packing(torch.tensor([3, 2]), frames=3)
    leaves = Leaves(
        torch.zeros(2, 2048, 8), torch.zeros(2, 2048, 512), torch.zeros(2, 2048), None, None, None
    )
    call = Call(plan, None, StepNoise(), torch.bfloat16)
    found = {}
    for name in (engines.CHOSEN, *engines.LAUNCHES):
        with engines.kernel(engines.Case(engines.OURS, name, engines.BFLOAT16, "state_dropout")):
            found[name] = triton_layer.choose_launch(call, leaves)
    assert {name: (way.at_once, way.replayed) for name, way in found.items()} == {
        engines.CHOSEN: (True, False),
        "Triton, all steps at once": (True, False),
        "Triton, graphs": (False, True),
        "Triton, step by step": (False, False),
    }


def test_the_time_loop_is_the_same_layer(engines: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = engines.Shape(layers=2, hidden=4, input=3, batch=3, frames=6)
    inputs, lengths = shape.make_batch()
    found = []
    ran: list[str] = []
    loop = engines.run_loop
    monkeypatch.setattr(engines, "run_loop", lambda *a: (ran.append("loop"), loop(*a))[1])
    for kernel in (engines.TORCH, engines.LOOP):
        case = engines.Case(engines.OURS, kernel, engines.FLOAT32, "state_dropout")
        found.append(engines.Engine(case, shape).infer(inputs, lengths))
    assert ran == ["loop", "loop"]
    torch.testing.assert_close(*found)


def test_a_gpu_is_waited_for_before_and_after(measure: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"wait for {device}"))
    assert measure._timed(lambda: order.append("run"), device="cuda") > 0
    assert order == ["wait for cuda", "run", "wait for cuda"]
    order.clear()
    measure._timed(lambda: order.append("run"))
    assert order == ["run"]


def test_what_is_aimed_at_on_a_gpu(engines: ModuleType, results: ModuleType) -> None:
    shape = engines.Shape(device="cuda")

    def result(engine: str, kernel: str, dropout: str, train: list[float]) -> object:
        return results.Result(shape, engines.Case(engine, kernel, "bfloat16", dropout), train)

    rows = [
        result("ours", engines.CHOSEN, "weight_dropout", [1.0, 2.0, 1.0]),
        result("ours", engines.CHOSEN, "state_dropout", [2.0, 2.0, 2.0]),
        result("ours", engines.LOOP, "state_dropout", [40.0, 40.0, 40.0]),
        result(engines.PACKED, "its own", "none", [1.5, 2.6, 1.3]),
    ]
    assert {name: (figure, met) for name, figure, _, met in results.aims(rows, shape)} == {
        "training step, weight_dropout, times packed": (1.3, True),
        "training step, state_dropout, times packed": (0.75, False),
        "training step, state_dropout, times the time loop": (20.0, True),
    }


def test_a_gpu_that_is_not_there_is_refused(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as caught:
        bench.main(["--device", "cuda"])
    assert caught.value.code == 2
    assert "--device cuda: torch finds no CUDA device here" in capsys.readouterr().err


def test_rounds_take_turns_and_the_first_does_not_count(
    engines: ModuleType, measure: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(measure, "_prepared", lambda task: lambda: calls.append(task.what))
    tasks = [measure.Task(what, engines.Shape(), engines.Case("ours", "native")) for what in ("a", "b")]
    with measure.Clock() as clock:
        seconds = measure.time_rounds(tasks, repeats=2, clock=clock)
    assert calls == ["a", "b"] * 3
    assert [len(runs) for runs in seconds.values()] == [2, 2]


def test_rounds_stop_where_time_is_up_but_not_before_three(
    engines: ModuleType, measure: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_prepared", lambda task: lambda: None)
    task = measure.Task("a", engines.Shape(), engines.Case("ours", "native"))
    with measure.Clock() as clock:
        assert len(measure.time_rounds([task], repeats=9, clock=clock, limit=0.0)[task]) == 3
        assert len(measure.time_rounds([task], repeats=9, clock=clock, limit=1e9)[task]) == 9


def test_ratios_are_taken_round_by_round(engines: ModuleType, results: ModuleType) -> None:
    shape = engines.Shape()

    def result(engine: str, kernel: str, dropout: str, train: list[float], peak: float) -> object:
        case = engines.Case(engine, kernel, "float32", dropout)
        return results.Result(shape, case, train, [second / 10 for second in train], peak)

    rows = [
        result("ours", "native", "none", [1.0, 2.0, 1.0], 5.0),
        result("ours", "native", "full", [1.0, 2.0, 1.0], 5.0),
        result("ours", "native", "zoneout_cell", [1.2, 2.2, 1.3], 5.0),
        result("nn.LSTM packed", "its own", "layer_dropout", [12.0, 22.0, 20.0], 9.0),
        result("nn.LSTM dense", "its own", "none", [1.0, 3.0, 1.0], 10.0),
    ]
    (lines,) = results.tables(rows).values()
    assert lines[2][4:8] == ["1.000", "12.00 (11.00–20.00)", "1.00 (1.00–1.50)", "0.100"]
    assert lines[4][5] == "1.00 (1.00–1.00)"
    aims = {name: (round(figure, 3), met) for name, figure, _, met in results.aims(rows, shape)}
    assert aims["training step, float32, times packed"] == (12.0, True)
    assert aims["training step, float32, times dense"] == (1.0, False)
    assert aims["inference, float32, times packed"] == (12.0, True)
    assert aims["what the dearest kind of dropout costs a step, float32, %"] == (20.0, False)
    assert aims["peak memory of a step, of dense's"] == (0.5, True)
    tasks = [
        results.Task(results.PRODUCT, shape, engines.Case("GEMM", kernel)) for kernel in ("torch", "native")
    ]
    second = 2 * 2048**3 / shape.operations()  # in which a product runs as many operations as the step in one
    (line,) = results.floors(rows, {tasks[0]: [second], tasks[1]: [3 * second]}, shape)
    assert "take 1.000 s at that speed; the step takes 1.000 s, 100% of it" in line
    assert line.endswith("would be 20.0 times packed")


def test_a_document_without_markers_is_refused_and_others_keep_their_text(
    results: ModuleType, tmp_path: Path
) -> None:
    document = tmp_path / "page.md"
    document.write_text("above\nbelow\n")
    with pytest.raises(ValueError, match=r"page\.md: has no section between"):
        results.replace_section(document, "new")
    begin, end = "<!-- bench: begin -->", "<!-- bench: end -->"
    others = "<!-- other: begin -->\nkept\n<!-- other: end -->\n"
    document.write_text(f"above\n{begin}\nold\n{end}\nbelow\n{others}")
    results.replace_section(document, "new")
    assert document.read_text() == f"above\n{begin}\nnew\n{end}\nbelow\n{others}"


def test_the_command_writes_rows_table_picture_and_document(
    bench: ModuleType,
    engines: ModuleType,
    results: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = [
        case
        for case in engines.reference_cases()
        if case.dropout in ("full", "none", "layer_dropout") and case.dtype == "float32"
    ]
    monkeypatch.setattr(bench, "reference_cases", lambda device: few)
    document, output = tmp_path / "page.md", tmp_path / "bench" / "lstm.json"
    document.write_text("<!-- bench: begin -->\n<!-- bench: end -->\n")
    sizes = {"layers": 2, "hidden": 3, "input": 2, "batch": 2, "frames": 5, "repeats": 1}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    bench.main([*options, f"--output={output}", f"--docs={document}"])

    written = json.loads(output.read_text())
    reference = [row for row in written["rows"] if row["batch"] == 2]
    assert [(row["engine"], row["kernel"], row["dtype"], row["dropout"]) for row in reference] == [
        dataclasses.astuple(case) for case in few
    ]
    for row in reference:
        assert row["shape"] == "2x3, input 2, batch 2, 5 frames"
        assert row["train_seconds"] > 0
        assert row["inference_seconds"] > 0
        assert row["peak_mib"] is None or row["peak_mib"] >= 0
    alone = [row for row in written["rows"] if row["batch"] == 1]
    assert {row["engine"] for row in alone} == {"ours", "nn.LSTM packed", "nn.LSTM dense"}
    assert all(row["inference_seconds"] > 0 and row["train_seconds"] is None for row in alone)
    assert set(written["gemm_gflops"]) == {"float32", "bfloat16"}

    printed, page = capsys.readouterr().out, document.read_text()
    assert "nn.LSTM packed" in printed
    assert "(aim: at least 12)" in printed
    assert f"torch {torch.__version__}" in printed
    assert "| nn.LSTM packed | its own | float32 | layer_dropout |" in page
    assert "page.svg" in page
    texts = ElementTree.parse(tmp_path / "page.svg").getroot().itertext()
    assert any("ours full" in text for text in texts)


def test_a_size_of_nothing_is_refused(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(["--repeats", "0"])
    assert caught.value.code == 2
    assert "--repeats: must be at least 1, not 0" in capsys.readouterr().err
