"""The arrows between modules, and what importing the package costs."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asr_lstm

PACKAGE = Path(asr_lstm.__file__).parent

# Lowest first: a module imports from its own group and from those listed before it.
GROUPS = [
    {
        "errors",
        "files",
        "console",
        "functions",
        "allocator",
        "shards",
        "audio",
        "units",
        "word_units",
        "piece_units",
        "manifest",
        "manifest_columns",
        "manifest_index",
        "speech",
        "unit_kinds",
        "lstm",
    },
    {
        "features",
        "convolution",
        "vocal_tract",
        "augment",
        "acoustics",
        "noise",
        "corpora",
        "batch_plan",
        "fading",
        "shard_groups",
        "batching",
        "model",
        "phones",
    },
    {"decoding", "lm", "scoring", "paired", "confusions", "bundle", "model_files"},
    {
        "preflight",
        "data",
        "schedule",
        "training",
        "lm_training",
        "parallel",
        "faults",
        "updates",
        "gradients",
        "judging",
        "loss",
        "expected_errors",
        "checkpoints",
        "averaging",
        "lock",
        "progress",
        "callbacks",
        "recognise",
        "inference",
        "evaluate",
        "transcribe",
        "writers",
        "report",
        "confidence_report",
        "pages",
        "doctor",
        "alignment",
        "alignment_writers",
        "export",
    },
    {
        "config",
        "choices",
        "default_rules",
        "default_beginnings",
        "defaults",
        "train",
        "bootstrap",
        "init_from",
        "resume",
        "grid",
        "tuning",
        "tuning_command",
        "crossfit",
        "compare",
        "compare_tables",
        "study",
        "study_page",
        "set_up",
        "splice",
        "splice_again",
        "fit",
        "stages",
        "model_inputs",
        "spoken",
        "decoded",
        "model_card",
        "experiment",
        "folds",
        "recipe",
        "report_page",
        "serve",
        "cli",
    },
]
LEVELS = {name: level for level, group in enumerate(GROUPS) for name in group}
# Nothing but themselves imports these; `cli` is the one door to the rest.
DOORS = {"cli": {"__main__"}, "serve": {"cli"}, "recipe": {"cli", "grid", "study", "train"}}
# What takes seconds to import, or isn't needed to say what is wrong with an option.
SLOW = {"torch", "torchaudio", "lightning", "librosa", "matplotlib", "numba", "scipy"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The part of the package that a file belongs to: `lstm` for asr_lstm/lstm/kernels/plan.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, package: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of each import, those within functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(relative, package) if node.level else relative
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def room_imports(source: str, *, package: str) -> Iterator[tuple[int, str]]:
    """(line, room) of each import of a part of this package."""
    for line, name in imports(ast.parse(source), package=package):
        first, _, rest = name.partition(".")
        if first == "asr_lstm" and rest and not rest.startswith("__version__"):
            yield line, rest.partition(".")[0]


def arrow_faults(path: Path) -> list[str]:
    own = room(path)
    package = ".".join(["asr_lstm", *path.relative_to(PACKAGE).parent.parts])
    faults = []
    for line, other in room_imports(path.read_text(encoding="utf-8"), package=package):
        where = f"{path.relative_to(PACKAGE.parent)}:{line}: {own} imports {other}"
        if other not in LEVELS:
            faults.append(f"{where}, which stands in no group")
        elif own in LEVELS and LEVELS[other] > LEVELS[own]:
            faults.append(f"{where}, of a later group")
        elif other in DOORS and own not in DOORS[other] | {other}:
            faults.append(f"{where}, which nothing but {' and '.join(DOORS[other])} may")
    return faults


def test_the_arrows_between_modules_point_downwards() -> None:
    assert len(modules()) > 10
    assert [fault for path in modules() for fault in arrow_faults(path)] == []


def test_each_module_stands_in_a_group() -> None:
    assert {room(path) for path in modules()} - {"__init__", "__main__"} <= set(LEVELS)


@pytest.mark.parametrize(
    "source",
    [
        "import asr_lstm.training",
        "from asr_lstm.training import fit",
        "from asr_lstm import training",
        "from .training import fit",
        "from . import training",
        "def f():\n    from asr_lstm.training import fit",
    ],
)
def test_every_form_of_import_is_seen(source: str) -> None:
    assert [name for _, name in room_imports(source, package="asr_lstm")] == ["training"]


def test_an_import_of_the_standard_library_is_none_of_ours() -> None:
    assert not list(room_imports("import json\nfrom torch import nn\nimport asr_lstm", package="asr_lstm"))


def test_espeak_is_imported_by_the_synthetic_corpus_alone() -> None:
    for path in modules():
        names = [name for _, name in imports(ast.parse(path.read_text("utf-8")), package="asr_lstm")]
        found = any(name.startswith("espeakng_loader") for name in names)
        assert not found or room(path) == "corpora", path


@pytest.mark.parametrize("name", ["asr_lstm", "asr_lstm.cli"])
def test_importing_is_cheap(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"there is no {name} yet")
    command = f"import sys, json, {name}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert SLOW.isdisjoint(json.loads(result.stdout))
