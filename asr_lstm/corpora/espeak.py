"""Synthetic speech by espeak-ng, through ctypes, and the job that writes it to files.

espeak-ng repeats its output only from a fresh process that speaks the same texts in the same order (its
noise generator and smoothing keep state), so each voice gets a process of its own: `run_job` is called in
one by `asr_lstm.corpora.espeak_pool`. This module must stay quick to import: the standard library and
numpy, no torch.

espeak-ng is licensed under the GPL-3 and comes with the optional package `espeakng-loader`, which is
imported here, inside a function, and nowhere else.
"""

from __future__ import annotations

import ctypes
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from asr_lstm.corpora.rooms import SAMPLE_RATE, Acoustics, Wave, add_room, resample
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.files import atomic_write

# Values of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_IPA = 2
_NOISE_SEED = 1
_PARAMETERS = {"rate": 1, "pitch": 3, "range": 4, "gap": 7}
LIMITS = {"rate": (80, 450), "pitch": (0, 100), "range": (0, 100), "gap": (0, 100)}
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker: two that differ in any field sound different.

    Attributes:
        language: an espeak-ng language, e.g. "en-us" or "cy".
        variant: a file of espeak-ng's `voices/!v` that changes the vocal tract; "" for none.
        pitch: base pitch, 0 to 100.
        range: how far the pitch moves, 0 to 100.
        rate: words a minute, 80 to 450.
        gap: pause between words, in hundredths of a second (at a usual rate), 0 to 100.
    """

    language: str
    variant: str = ""
    pitch: int = 50
    range: int = 50
    rate: int = 160
    gap: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low} to {high}, not {getattr(self, name)}")

    @property
    def name(self) -> str:
        """The voice as espeak-ng writes it, `language+variant`."""
        return f"{self.language}+{self.variant}" if self.variant else self.language


class Espeak:
    """espeak-ng with one voice. The library has one state a process: only the newest instance speaks."""

    _newest: ClassVar[Espeak | None] = None

    def __init__(self, voice: Voice) -> None:
        """Load espeak-ng and choose the voice.

        Raises:
            ConfigError: espeakng-loader is not installed, or there is no such language or variant.
        """
        self._library, data, self.sample_rate = _start_library()
        # The noise of breathy variants (f2, victor, ...) is seeded by the time of day otherwise.
        self._library.espeak_ng_SetRandSeed(_NOISE_SEED)
        self._chunks: list[NDArray[np.int16]] = []
        self._set_voice(voice, data)
        self._callback = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        Espeak._newest = self  # also keeps alive the callback, to which C holds a bare pointer

    def _set_voice(self, voice: Voice, data: Path) -> None:
        # An unknown variant is ignored without an error, so the file itself is asked for. Names are
        # compared as listed because a file system may not tell upper from lower case.
        variants = {file.name for file in (data / "voices" / "!v").iterdir()}
        if voice.variant and voice.variant not in variants:
            raise ConfigError(f"{voice.name}: espeak-ng has no variant {voice.variant!r} in {data}/voices/!v")
        # By the path of its file: by its name espeak-ng reads the files of all voices, a tenth of a second each time.
        file = next(
            (path for path in language_files(data) if path.name.lower() == voice.language.lower()), None
        )
        name = replace(voice, language=str(file.relative_to(data / "lang"))).name if file else voice.name
        # A bad language returns an error and keeps the previous voice.
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ConfigError(f"{voice.name}: espeak-ng has no language {voice.language!r}; see {data}/lang")
        for name, number in _PARAMETERS.items():
            value = getattr(voice, name)
            self._library.espeak_SetParameter(number, value, 0)
            if self._library.espeak_GetParameter(number, 1) != value:
                raise ConfigError(f"{voice.name}: espeak-ng refuses {name} {value}")

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def speak(self, text: str) -> Wave:
        """Return `text` spoken: (samples,) in [-1, 1] at `sample_rate` (22 050 Hz).

        Raises:
            DataError: espeak-ng fails, or nothing in the text can be spoken.
            ValueError: another `Espeak` was made since, so that the voice would be that one's.
        """
        self._check_newest()
        self._chunks = []
        data = text.encode()
        status = self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
        if status != 0:
            raise DataError(f"{text!r}: espeak-ng cannot speak this (error {status})")
        samples = np.concatenate([np.zeros(0, np.int16), *self._chunks])
        if not samples.any():
            raise DataError(f"{text!r}: espeak-ng finds nothing to speak in this text")
        wave: Wave = samples.astype(np.float32) * np.float32(1 / 32768)
        return wave

    def _check_newest(self) -> None:
        if Espeak._newest is not self:
            raise ValueError("this Espeak was replaced by a later one: use one voice at a time in a process")

    def phonemes(self, text: str) -> str:
        """Return the pronunciation of `text` in the International Phonetic Alphabet; errors as in `speak`."""
        self._check_newest()
        pointer = ctypes.c_char_p(text.encode())
        clauses = []
        while pointer.value:
            clauses.append(self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA).decode())
        return " ".join(clauses)


def language_files(data: Path) -> Iterator[Path]:
    """The files of espeak-ng's languages, each named after its voice; `data` is the folder of its data."""
    return (path for path in (data / "lang").rglob("*") if path.is_file())


def find_espeak() -> tuple[Path, Path]:
    """Return the paths of espeak-ng's library and of its data.

    Raises:
        ConfigError: espeakng-loader is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise ConfigError(
            "synthetic speech needs espeak-ng: pip install 'asr_lstm[synthetic]' (espeakng-loader, GPL-3)"
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


@cache
def _start_library() -> tuple[ctypes.CDLL, Path, int]:
    """Return espeak-ng, its data and its rate in Hz; loaded once a process: started twice, it babbles."""
    path, data = find_espeak()
    library = ctypes.CDLL(str(path))
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_Info.argtypes = [ctypes.POINTER(ctypes.c_char_p)]
    library.espeak_Info.restype = ctypes.c_char_p
    sample_rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT))
    if sample_rate <= 0:
        raise ConfigError(f"{data}: espeak-ng does not start with this data; reinstall espeakng-loader")
    return library, data, sample_rate


def espeak_version() -> str:
    """Return the release of espeak-ng, e.g. "1.52.0".

    Raises:
        ConfigError: espeakng-loader is not installed.
    """
    library, _, _ = _start_library()
    version: bytes = library.espeak_Info(ctypes.byref(ctypes.c_char_p()))
    return version.decode()


def run_job(job: Mapping[str, Any]) -> dict[str, float]:
    """Speak a job's texts in their order and write them as mono 16-bit FLAC.

    Args:
        job: `voice` (the fields of a `Voice`), `files` (path relative to `folder` -> text), `folder`, `seed`,
            and `acoustics` (the fields of an `Acoustics`) or None for the bare voice. Texts of which nothing can be
            spoken are left out, unless that is true of all. It may also hold `rate`
            (Hz, 16 000), `shortest` and `longest` (seconds of what is spoken; other texts are left out),
            `enough` (seconds after which the other texts are left out) and `record` (a file below `folder`
            that remembers the result, so that a job that is done is not done again).

    Returns:
        The seconds of each file.

    Raises:
        AsrLstmError: as `Espeak`, or a file that cannot be written.
    """
    record = Path(job["folder"]) / job["record"] if job.get("record") else None
    if record is not None and (known := _read_record(record)) is not None:
        return known
    espeak = Espeak(Voice(**job["voice"]))
    seconds: dict[str, float] = {}
    total = 0.0
    refused: DataError | None = None
    for name, text in job["files"].items():
        try:
            spoken = espeak.speak(text)
        except DataError as error:  # as of signs alone: the others are not to be lost for it
            refused = error
            continue
        if not job.get("shortest", 0.0) <= len(spoken) / espeak.sample_rate <= job.get("longest", math.inf):
            continue
        wave = resample(spoken, espeak.sample_rate)
        seconds[name] = _write_speech(wave, job, name)
        total += seconds[name]
        if total >= job.get("enough", math.inf):
            break
    if refused is not None and not seconds:
        raise refused
    if record is not None:
        with atomic_write(record) as file:
            json.dump(seconds, file)
    return seconds


def _read_record(path: Path) -> dict[str, float] | None:
    try:
        seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return seconds


def _write_speech(wave: Wave, job: Mapping[str, Any], name: str) -> float:
    """Put the room around a wave (samples,) at 16 kHz and write it; returns its seconds."""
    import soundfile

    if job["acoustics"]:
        # Seeded by the file's name, so that a file does not depend on what else is made.
        rng = np.random.default_rng([job["seed"], zlib.crc32(name.encode())])
        wave = add_room(wave, Acoustics(**job["acoustics"]), rng)
    rate = int(job.get("rate", SAMPLE_RATE))
    if rate != SAMPLE_RATE:
        wave = resample(wave, SAMPLE_RATE, rate)
    path = Path(job["folder"]) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, rate, subtype="PCM_16", format="FLAC")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: cannot write ({error})") from error
    return len(wave) / rate
