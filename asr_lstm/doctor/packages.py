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
# Both lists are those of setup.cfg, which an installed package has no copy of; a test compares them. The list that
# pip keeps would not do: that of a checkout is as old as its last installation.
NEEDED = (
    "torch==2.11.0",
    "torchaudio==2.11.0",
    "lightning>=2.6.4,<3",
    "librosa>=0.10.2",
    "soundfile>=0.12",
    "numba>=0.59",
    "soxr>=0.3",
    "audioread>=3",
    "scipy>=1.10",
    "jiwer>=4,<5",
    "safetensors>=0.4",
    "jsonargparse[signatures]>=4.49",
    "PyYAML>=6",
    "rich>=13.8",
    "tensorboard>=2.16",
    "numpy>=1.26",
)
# What is nice to have, its packages, and for what.
EXTRAS = (
    (
        "synthetic",
        ("espeakng-loader>=0.2.4",),
        "for synthetic speech (`bootstrap`, the stand-in corpus) and for how words sound (`phones`)",
    ),
    (
        "sentencepiece",
        ("sentencepiece>=0.2",),
        "for pieces of words as units, of recognisers or of language models",
    ),
    (
        "dev",
        ("sentencepiece>=0.2", "pytest>=8", "ruff>=0.8", "mypy>=1.13", "types-PyYAML"),
        "for `make test` and `make lint`",
    ),
)
_AUDIO = ("numpy", "soundfile", "soxr")
_TORCH_PAIR = NEEDED[:2]


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
    for requirement in NEEDED:
        name = requirement_name(requirement)
        if fault := _version_fault(requirement):
            yield Check(name, "BROKEN", fault, pip_install(requirement))
        else:
            yield Check(name, "ok", installed_version(name) or "")


def _version_fault(requirement: str) -> str:
    """Why a requirement is not met, "" where it is."""
    found = installed_version(requirement_name(requirement))
    if found is None:
        return "not installed"
    return "" if satisfies(found, requirement) else f"{found}, where {requirement} is needed"


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
    for extra, requirements, purpose in EXTRAS:
        faults = {wanted: fault for wanted in requirements if (fault := _version_fault(wanted))}
        if faults:
            text = "; ".join(f"{requirement_name(wanted)} {fault}" for wanted, fault in faults.items())
            yield Check(extra, "note", f"{text}; {purpose}", pip_install(*faults))
        else:
            names = [requirement_name(wanted) for wanted in requirements]
            found = ", ".join(f"{name} {installed_version(name)}" for name in names)
            yield Check(extra, "ok", f"{found}; {purpose}")
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
