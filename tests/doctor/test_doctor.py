from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr_lstm.doctor import doctor_command, kernel, machine, packages
from asr_lstm.doctor.checks import Check
from asr_lstm.doctor.command import examine
from asr_lstm.lstm.kernels import native

ROOT = Path(__file__).resolve().parents[2]


def checks(**options: Any) -> dict[str, Check]:
    """All checks by name."""
    return {check.name: check for found in examine(**options).values() for check in found}


def fail(*arguments: object, **options: object) -> Any:
    raise RuntimeError("broken on purpose\nin two lines")


def test_this_environment_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor_command() == 0
    out = capsys.readouterr().out
    for heading in ("Packages", "LSTM kernel", "Machine", "Extras"):
        assert f"\n{heading}\n" in f"\n{out}"
    assert f"python           {sys.version.split()[0]}" in out
    assert f"torch            {importlib.metadata.version('torch')}" in out
    assert "belong together and load" in out
    assert "BROKEN" not in out
    assert out.endswith("All that recipes need is there.\n")


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "jiwer":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor_command() == 1
    out = capsys.readouterr().out
    assert "BROKEN jiwer            not installed" in out
    assert f"-> {sys.executable} -m pip install 'jiwer" in out
    assert "Broken: jiwer." in out


def test_a_version_that_setup_cfg_does_not_allow_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "2.15.0" if name == "torch" else real(name)
    )
    found = checks()["torch"]
    assert (found.state, found.text) == ("BROKEN", "2.15.0, where torch==2.11.0 is needed")
    assert found.remedy.endswith("-m pip install torch==2.11.0")


@pytest.mark.parametrize(
    ("version", "requirement", "good"),
    [
        ("2.11.0", "torch==2.11.0", True),
        ("2.11.0+cpu", "torch==2.11.0", True),
        ("2.12.0", "torch==2.11.0", False),
        ("4.49", "jsonargparse[signatures]>=4.49", True),
        ("3.9", "jiwer<5,>=4", False),
        ("1.0", "rich", True),
    ],
)
def test_versions_are_compared_as_pip_does(version: str, requirement: str, good: bool) -> None:
    assert packages.satisfies(version, requirement) == good


def _lines(text: str) -> list[str]:
    """The requirements in a field of setup.cfg, without its comments."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_lists_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert _lines(config["options"]["install_requires"]) == list(packages.NEEDED)
    assert set(packages._TORCH_PAIR) <= set(packages.NEEDED)
    extras = {extra: list(requirements) for extra, requirements, _ in packages.EXTRAS}
    wanted = {extra: _lines(text) for extra, text in config["options.extras_require"].items()}
    assert {extra: extras.get(extra) for extra in wanted} == wanted
    # What stands there besides is something that the code would import, not a plan.
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "asr_lstm").rglob("*.py"))
    for extra in extras.keys() - wanted.keys():
        assert [
            name for name in extras[extra] if f"import {packages.requirement_name(name)}\n" not in code
        ] == []
    versions = config["options"]["python_requires"]
    assert versions == ">={}.{},<{}.{}".format(*packages._PYTHONS[0], *packages._PYTHONS[1])


@pytest.mark.parametrize(("version", "said"), [(None, "not installed"), ("0.1", "0.1, where ")])
def test_an_extra_that_is_missing_or_too_old_is_a_note_with_the_command(
    version: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version

    def other(name: str) -> str:
        if name not in ("espeakng-loader", "ruff", "mypy"):
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", other)
    assert doctor_command() == 0
    out = capsys.readouterr().out
    assert f"note   synthetic        espeakng-loader {said}" in out
    assert f"-> {sys.executable} -m pip install 'espeakng-loader>=0.2.4'\n" in out
    assert f"note   dev              ruff {said}" in out
    assert f"-> {sys.executable} -m pip install 'ruff>=0.8' 'mypy>=1.13'\n" in out


def test_extras_are_no_needs() -> None:
    needed = {check.name for check in packages.check_needed()}
    assert {"torch", "rich"} <= needed
    assert needed.isdisjoint({"pytest", "ruff", "espeakng-loader"})


@pytest.mark.parametrize("culprit", ["torch", "torchaudio"])
def test_a_library_that_does_not_load_is_broken(
    culprit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def load(name: str, package: str | None = None) -> Any:
        if name == culprit:
            raise OSError(f"/lib/{name}.so: undefined symbol: _ZN3c10\nand more")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", load)
    assert doctor_command() == 1
    out = capsys.readouterr().out
    assert f"torch pair       {culprit} does not load (OSError: /lib/{culprit}.so: undefined symbol" in out
    assert "pip install torch==2.11.0 torchaudio==2.11.0" in out


def test_a_pair_of_unlike_versions_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.15.0", "torchaudio": "2.11.0+cpu"}
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__=versions[name]))
    (found,) = packages.check_torch()
    assert (found.state, found.text) == (
        "BROKEN",
        "torch 2.15.0 and torchaudio 2.11.0+cpu do not belong together",
    )


@pytest.mark.parametrize(
    ("lacking", "broken"),
    [
        ("torch", "torch pair       torch does not load"),
        ("torchaudio", "torch pair       torchaudio does not load"),
        ("soundfile", "audio            soundfile does not load"),
        ("numpy", "audio            numpy does not load"),
        ("asr_lstm.schedule", "precision        cannot be told"),
        ("rich", ""),
        ("packaging", ""),
    ],
)
def test_without_a_package_the_rest_is_still_told(lacking: str, broken: str) -> None:
    # None in sys.modules makes its import raise ImportError.
    command = (
        f"import sys; sys.modules[{lacking!r}] = None\n"
        "from asr_lstm.doctor import doctor_command\n"
        "raise SystemExit(doctor_command(build=True))"
    )
    environment = os.environ | {"ASR_LSTM_KERNEL": "portable"}
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
    assert "Traceback" not in result.stderr
    assert "cores to use" in result.stdout
    assert "espeakng-loader" in result.stdout
    assert broken in result.stdout
    assert result.returncode == int(bool(broken)), result.stdout


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (importlib.metadata, "version"),
        (importlib, "import_module"),
        (os, "cpu_count"),
        (os, "sysconf"),
        (shutil, "which"),
        (shutil, "disk_usage"),
        (subprocess, "run"),
        (Path, "read_text"),
        (Path, "cwd"),
        (Path, "glob"),
        (torch.cuda, "is_available"),
        (native, "usable"),
        (packages, "check_python"),
        (machine, "check_memory"),
    ],
)
@pytest.mark.parametrize("build", [False, True])
def test_whatever_breaks_the_doctor_goes_on(
    owner: Any, name: str, build: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fail)
        code = doctor_command(build=build)
    assert code in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert "Extras" in lines
    assert lines[-1]


def test_a_python_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    (found,) = packages.check_python()
    assert found.state == "BROKEN"
    assert "use Python 3.10 to 3.13" in found.remedy


def kernel_check(**options: bool) -> Check:
    return {check.name: check for check in kernel.check_kernel(**options)}["kernel"]


@pytest.fixture
def fresh_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No library loaded yet, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("CXX", "ASR_LSTM_KERNEL"):
        monkeypatch.delenv(name, raising=False)
    native._library.cache_clear()
    yield tmp_path / "asr_lstm"
    native._library.cache_clear()


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_the_kernel_is_compiled_when_asked_for_and_not_before(fresh_kernel: Path) -> None:
    before = kernel_check()
    assert before.state == "ok"
    assert "to be compiled at first use" in before.text
    assert not fresh_kernel.exists()
    built = kernel_check(build=True)
    assert (built.state, built.text) == ("ok", f"C++, compiled and loaded from {fresh_kernel}")
    assert len(list(fresh_kernel.glob("lstm-*.so"))) == 1
    assert "1 compiled" in kernel_check().text


def test_a_compiler_that_fails_is_told_with_its_reason(
    fresh_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "broken-g++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit 0\necho "no room left" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    found = kernel_check(build=True)
    assert found.state == "note"
    assert "cannot be compiled (no room left)" in found.text
    assert found.remedy


def test_without_a_compiler_the_remedy_is_to_install_one(
    fresh_kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install g++" in kernel_check().remedy
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert "CXX names /nowhere/g++, which is not there" in kernel_check().text
    monkeypatch.setenv("ASR_LSTM_KERNEL", "portable")
    assert kernel_check().remedy == "unset ASR_LSTM_KERNEL"


def smi(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    done = SimpleNamespace(stdout=answer)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)


def test_gpus_are_named_with_memory_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    smi(monkeypatch, "NVIDIA H100, 81559 MiB, 550.54\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    (found,) = machine.check_gpu()
    assert found.state == "ok"
    assert found.text.startswith("NVIDIA H100, 80 GiB, driver 550.54, CUDA")


@pytest.mark.parametrize(("cuda", "said"), [(None, "was built without CUDA"), ("13.0", "needs CUDA 13.0")])
def test_a_gpu_that_torch_does_not_see_is_told(
    cuda: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(monkeypatch, "NVIDIA H100, 81559 MiB, 450.10\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    (found,) = machine.check_gpu()
    assert found.state == "note"
    assert said in found.text
    assert found.remedy


def test_a_driver_that_hangs_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = machine.check_gpu()
    assert (found.state, found.text) == ("ok", "none; recipes run on the processor")


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({}, None, None),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None),
        ({"cpu.max": "150000 100000\n", "memory.max": "2147483648\n"}, 1.5, 2**31),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "memory/memory.limit_in_bytes": "1024\n"}, 2.0, 1024),
        ({"cpu/cpu.cfs_quota_us": "-1\n"}, None, None),
    ],
)
def test_limits_of_containers_are_read(
    files: dict[str, str], cores: float | None, memory: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert machine._quota(tmp_path) == cores
    assert machine._memory_limit(tmp_path) == memory


@pytest.mark.parametrize(("free", "state"), [(0.1, "BROKEN"), (2.0, "note"), (50.0, "ok")])
def test_a_full_disk_is_broken(free: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free * 2**30))
    (found,) = machine.check_disk()
    assert found.state == state


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert checks()["disk"].text.startswith("cannot be told (FileNotFoundError")


def test_importing_the_doctor_needs_nothing_that_may_be_broken() -> None:
    command = "import sys, json, asr_lstm.doctor; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert loaded.isdisjoint(
        {"torch", "torchaudio", "numpy", "rich", "jsonargparse", "packaging", "lightning"}
    )
