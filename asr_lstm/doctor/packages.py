"""Which packages are there, in which versions, and whether torch and torchaudio belong together."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator

from asr_lstm.doctor.checks import Check

_NAME = "asr_lstm"
_PYTHONS = ((3, 10), (3, 14))  # from the first to before the second, as setup.cfg says
# Asked for where the package's own list cannot be read.
_NEEDED = (
    "torch==2.11.*",
    "torchaudio==2.11.*",
    "lightning",
    "librosa",
    "soundfile",
    "soxr",
    "scipy",
    "jiwer",
    "safetensors",
    "jsonargparse",
    "PyYAML",
    "rich",
    "tensorboard",
    "numpy",
)
# What is nice to have, and for what.
EXTRAS = (
    ("espeakng-loader", "makes the synthetic stand-in corpus, where there is no LibriSpeech"),
    ("sentencepiece", "word pieces as output units"),
    ("onnx", "exports a model to ONNX"),
    ("onnxruntime", "runs an exported model, and checks it after the export"),
    ("fastapi", "the HTTP server, with uvicorn"),
    ("uvicorn", "the HTTP server, with fastapi"),
    ("ray", "tunes settings in parallel"),
)
_AUDIO = ("numpy", "soundfile", "soxr")
_TORCH_PAIR = ("torch==2.11.*", "torchaudio==2.11.*")


def check_python() -> Iterator[Check]:
    """The interpreter's version."""
    first, end = _PYTHONS
    state = first <= sys.version_info[:2] < end
    yield Check(
        "python",
        "ok" if state else "BROKEN",
        f"{platform.python_version()}, {sys.executable}",
        ""
        if state
        else f"use Python {first[0]}.{first[1]} to {end[0]}.{end[1] - 1}: make setup PYTHON=python3.12",
    )


def check_needed() -> Iterator[Check]:
    """Each package that asr_lstm cannot do without."""
    version = installed_version(_NAME)
    if version is None:
        remedy = "in the folder of the project: make setup, or python -m pip install -e ."
        yield Check(_NAME, "note", "not installed, run from its folder", remedy)
    else:
        yield Check(_NAME, "ok", version)
    for requirement in _requirements():
        name = requirement_name(requirement)
        found = installed_version(name)
        wanted = requirement.replace(" ", "")
        if found is None:
            yield Check(name, "BROKEN", "not installed", pip_install(wanted))
        elif not satisfies(found, requirement):
            yield Check(name, "BROKEN", f"{found}, where {wanted} is needed", pip_install(wanted))
        else:
            yield Check(name, "ok", found)


def _requirements() -> list[str]:
    """What setup.cfg requires here without any extra, such as `jiwer<5,>=4`."""
    try:
        listed = importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return list(_NEEDED)
    return [line.partition(";")[0].strip() for line in listed if _applies(line.partition(";")[2])]


def _applies(marker: str) -> bool:
    """Whether a requirement's condition, such as `extra == "dev"`, holds where no extra is asked for."""
    if not marker.strip():
        return True
    try:
        from packaging.markers import Marker
    except ImportError:
        return "extra" not in marker
    return bool(Marker(marker).evaluate({"extra": ""}))


def requirement_name(requirement: str) -> str:
    """The package's name in a requirement such as `jsonargparse[signatures]>=4.49`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match.group().rstrip(".-") if match else requirement


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version is one that the requirement asks for; so where that cannot be told."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # it comes with lightning, which may be what is missing
        return True
    try:
        return bool(Requirement(requirement).specifier.contains(version, prereleases=True))
    except (InvalidRequirement, ValueError):
        return True


def check_audio() -> Iterator[Check]:
    """Whether what reads audio loads: soundfile needs the library libsndfile, soxr its own."""
    for name in _AUDIO:
        if fault := _load_fault(name):
            yield Check("audio", "BROKEN", fault, pip_install("--force-reinstall", name))
            return
    yield Check("audio", "ok", f"{', '.join(_AUDIO)} load")


def _load_fault(name: str) -> str:
    """Why a package does not load, "" where it does."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a library it lacks, symbols that another one lacks, its own refusal
        return f"{name} does not load ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return ""


def check_torch() -> Iterator[Check]:
    """Whether torch and torchaudio load, and were made for each other."""
    for name in ("torch", "torchaudio"):
        if fault := _load_fault(name):
            yield Check("torch pair", "BROKEN", fault, pip_install(*_TORCH_PAIR))
            return
    torch, torchaudio = (str(importlib.import_module(name).__version__) for name in ("torch", "torchaudio"))
    if torch.split(".")[:2] == torchaudio.split(".")[:2]:
        yield Check("torch pair", "ok", f"torch {torch} and torchaudio {torchaudio} belong together and load")
    else:
        text = f"torch {torch} and torchaudio {torchaudio} do not belong together"
        yield Check("torch pair", "BROKEN", text, pip_install(*_TORCH_PAIR))


def check_extras() -> Iterator[Check]:
    """What is nice to have: there, or what it is for and how to get it."""
    for name, purpose in EXTRAS:
        version = installed_version(name)
        if version is None:
            yield Check(name, "note", f"not installed; {purpose}", pip_install(name))
        else:
            yield Check(name, "ok", f"{version}; {purpose}")
    if shutil.which("ffmpeg"):
        yield Check("ffmpeg", "ok", "reads M4A, WebM and other files that libsndfile does not know")
    else:
        remedy = "apt-get install ffmpeg, brew install ffmpeg, or convert such files to WAV or FLAC"
        yield Check("ffmpeg", "note", "not there; reads M4A, WebM and the like", remedy)


def installed_version(name: str) -> str | None:
    """The version of an installed package without importing it; None where it is not there, or only half."""
    try:
        return importlib.metadata.version(name) or None
    except Exception:  # PackageNotFoundError, or whatever a damaged description gives rise to
        return None


def pip_install(*requirements: str) -> str:
    """The command that installs packages for this interpreter."""
    return shlex.join([sys.executable or "python3", "-m", "pip", "install", *requirements])
