"""Read any common audio file as float32 mono at the model's rate, or say in one line why it cannot be.

libsndfile (WAV, FLAC, MP3, Ogg, Opus, AIFF, ...) reads first; what it does not know (M4A, WebM, ...) goes to
whatever decoder audioread finds on the machine, commonly ffmpeg.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr_lstm.errors import AudioError
from asr_lstm.manifest import Utterance
from asr_lstm.shards import recording_file

MIN_SECONDS = 0.1  # shorter than any spoken word; less is a click, or a cut gone wrong
SAMPLE_RATE = 16000  # Hz; what speech corpora come in, and speech holds little above its 8 kHz
_LOWEST_RATE = 4000  # Hz; a header that says less is broken, and resampling from 1 Hz would fill the memory
_HIGHEST_PEAK = 100.0  # a float file that goes beyond has its full scale elsewhere (32768, say), not at 1
_SLACK_SECONDS = 0.1  # MP3 headers count the encoder's own delay; manifests round their durations
_UNKNOWN_FRAMES = 2**62  # libsndfile's answer (2**63 - 1) for FLAC written to a pipe, which gives no length
_BLOCK_FRAMES = 1 << 16

# libsndfile reads what is left of a cut WAV, AIFF or AU without an error, but notes in its log what the
# header promised. Programs that write to a pipe put a size near 2**31 or 2**32 instead of a promise.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.M)
_STREAMED_SIZE = 0x7FFF0000
_OGG_PAGE = b"OggS"  # each page begins so
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255  # bytes: header, segment table, segments (RFC 3533, section 6)

_log = logging.getLogger(__name__)

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: its length in seconds, its rate in Hz and its number of channels."""

    seconds: float
    rate: int
    channels: int


def read_audio(
    path: str | Path,
    *,
    rate: int = SAMPLE_RATE,
    offset: float = 0.0,
    duration: float | None = None,
    min_seconds: float = MIN_SECONDS,
) -> Samples:
    """Read a file, or a stretch of it, as mono.

    Channels are averaged, other rates are resampled by soxr (HQ), and what then lies outside [-1, 1] (float
    files, ringing at the edges of clipped speech) is cut off there.

    Args:
        path: any format that libsndfile or a decoder on this machine reads.
        rate: of the result, in Hz.
        offset: where to begin, in seconds.
        duration: how much to read, in seconds; to the end by default.
        min_seconds: less than this is an error.

    Returns:
        float32 `(samples,)` in [-1, 1].

    Raises:
        AudioError: the file is missing, unreadable, not audio, cut short or too short, holds NaN or infinity,
            or ends before `offset + duration`.
        ValueError: an argument is negative or not finite.
    """
    path = Path(path)
    if rate <= 0:
        raise ValueError(f"rate must be positive, not {rate}")
    if not (math.isfinite(offset) and offset >= 0):
        raise ValueError(f"offset must be a number of seconds from 0, not {offset}")
    if duration is not None and not (math.isfinite(duration) and duration >= 0):
        raise ValueError(f"duration must be a number of seconds from 0, not {duration}")
    _check_file(path)
    samples, native = _read_window(path, offset, duration)
    _check_samples(path, samples, native, offset, min_seconds)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if native != rate:
        mono = soxr.resample(mono, native, rate, quality="HQ")
    clipped: Samples = np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)
    return clipped


def load_utterance(
    utterance: Utterance, *, rate: int = SAMPLE_RATE, min_seconds: float = MIN_SECONDS
) -> Samples:
    """Read what a manifest's row names, of a file or a shard: float32 `(samples,)`; errors as in `read_audio`."""
    with recording_file(utterance) as path:
        return read_audio(
            path,
            rate=rate,
            offset=utterance.offset,
            duration=utterance.duration,
            min_seconds=min_seconds,
        )


def audio_info(path: str | Path) -> AudioInfo:
    """Length, rate and channels without decoding, so that a cut FLAC or MP3 still has its full length here.

    Raises:
        AudioError: the file is missing, unreadable, not audio, or a WAV that is shorter than its header says.
    """
    path = Path(path)
    _check_file(path)
    file = _open(path)
    if file is None:
        samples, rate = _decode_elsewhere(path)
        return AudioInfo(len(samples) / rate, rate, samples.shape[1])
    with file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
        if frames >= _UNKNOWN_FRAMES:
            frames = len(_read_stream(file, path))
    return AudioInfo(frames / rate, rate, channels)


def _check_file(path: Path) -> None:
    """Open the file once by hand: libsndfile says the same of a folder, an empty file and a forbidden one."""
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file; name the files in it")
        if path.exists() and not path.is_file():
            raise AudioError(f"{path}: is not a regular file; write the audio to a file first")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise AudioError(f"{path}: no permission to read it; change its mode or its owner") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read ({reason})") from error
    if empty:
        raise AudioError(f"{path}: the file is empty; copy or record it again")


def _check_samples(path: Path, samples: Samples, native: int, offset: float, min_seconds: float) -> None:
    """Refuse what is no signal; `samples` is `(frames, channels)`."""
    seconds = len(samples) / native
    if len(samples) == 0 or seconds < min_seconds:
        raise AudioError(
            f"{path}: {seconds:.3f} s of audio is too short (the least is {min_seconds:g} s); "
            "leave it out or give more of the recording"
        )
    finite = np.isfinite(samples)
    if not finite.all():
        bad = ~finite.all(axis=1)
        first = offset + int(bad.argmax()) / native
        raise AudioError(
            f"{path}: NaN or infinite samples ({int(bad.sum())}, the first at {first:.3f} s); "
            "write the file again from its source"
        )
    peak = float(np.abs(samples).max())
    if peak > _HIGHEST_PEAK:
        raise AudioError(f"{path}: samples reach {peak:.0f} where full scale is 1; scale the file to [-1, 1]")


def _open(path: Path) -> _File | None:
    """The file as libsndfile sees it, or None where it knows no such format."""
    try:
        file = _File(os.fspath(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless formats, known by name only
        return None
    except UnicodeEncodeError as error:  # what soundfile makes of a name that is not UTF-8
        raise AudioError(f"{path}: its name is not UTF-8; give it another") from error
    try:
        if file.samplerate < _LOWEST_RATE:
            raise AudioError(
                f"{path}: a rate of {file.samplerate} Hz holds no speech; resample from the original"
            )
        _check_complete(path, file)
    except AudioError:
        file.close()
        raise
    return file


def _check_complete(path: Path, file: _File) -> None:
    for declared, present in _SHORT_CHUNK.findall(file.extra_info):
        if int(present) < int(declared) < _STREAMED_SIZE:
            raise _cut(path, f"{present} of {declared} bytes are there")
    if file.format == "OGG" and _ends_within_a_page(path):
        raise _cut(path, "it ends within a page")


def _ends_within_a_page(path: Path) -> bool:
    """Whether an Ogg file breaks off within a page: libsndfile passes over such a page in silence."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * _LARGEST_OGG_PAGE))
        tail = file.read()
    page = tail[tail.rfind(_OGG_PAGE) :]
    header = 27 + page[26] if len(page) > 26 else 27
    rest = page[header + sum(page[27:header]) :]
    return len(page) < header + sum(page[27:header]) or (bool(rest) and _OGG_PAGE.startswith(rest))


def _cut(path: Path, what: str) -> AudioError:
    return AudioError(f"{path}: the file is cut short or damaged ({what}); copy or download it again")


def _read_window(path: Path, offset: float, duration: float | None) -> tuple[Samples, int]:
    """Samples `(frames, channels)` of the stretch, and their rate in Hz."""
    file = _open(path)
    if file is None:
        samples, rate = _decode_elsewhere(path)
    else:
        with file:
            rate = file.samplerate
            if file.frames < _UNKNOWN_FRAMES:
                start, stop = _window(path, file.frames, rate, offset, duration)
                return _read_stretch(file, path, start, stop), rate
            samples = _read_stream(file, path)
    start, stop = _window(path, len(samples), rate, offset, duration)
    return samples[start:stop], rate


def _read_stretch(file: _File, path: Path, start: int, stop: int) -> Samples:
    """The frames from `start` to before `stop`, `(frames, channels)`."""
    try:
        if start:
            file.seek(start)
        samples: Samples = file.read(stop - start, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _cut(path, "decoding it fails") from error
    rate = file.samplerate
    if len(samples) < stop - start - _SLACK_SECONDS * rate:
        raise _cut(path, f"{len(samples) / rate:.2f} of {(stop - start) / rate:.2f} s can be decoded")
    return samples


def _window(path: Path, frames: int, rate: int, offset: float, duration: float | None) -> tuple[int, int]:
    """First frame and the one after the last; both within the file."""
    start = round(offset * rate)
    stop = frames if duration is None else start + round(duration * rate)
    if stop > frames + _SLACK_SECONDS * rate or start > frames:
        asked = f"from {offset:g} s" if duration is None else f"{offset:g} to {offset + duration:g} s"
        raise AudioError(
            f"{path}: {asked} is asked for, but it is {frames / rate:.2f} s long; correct the manifest"
        )
    return start, min(stop, frames)


class _File(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A SoundFile that does not seek after each read where the length is unknown: libsndfile fails there."""

    def seekable(self) -> bool:
        return self.frames < _UNKNOWN_FRAMES and bool(super().seekable())


def _read_stream(file: _File, path: Path) -> Samples:
    """Everything, `(frames, channels)`, of a file whose header gives no length."""
    blocks = []
    try:
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            blocks.append(block)
    except soundfile.LibsndfileError as error:
        raise _cut(path, "decoding it fails") from error
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32)


def _decode_elsewhere(path: Path) -> tuple[Samples, int]:
    """Samples `(frames, channels)` and their rate from what audioread finds here: ffmpeg, CoreAudio, ...

    audioread itself rather than librosa.load, which is moving away from it and takes seconds to import.
    """
    unknown = f"{path}: is not audio, or needs ffmpeg, which is not installed here; convert it to WAV or FLAC"
    try:
        import audioread

        backends = audioread.available_backends()
    except ImportError as error:
        raise AudioError(unknown) from error
    # Its own reader of WAV, AIFF and AU is always there, but libsndfile knows more of those and has refused.
    backends = [kind for kind in backends if kind.__name__ != "RawAudioFile"]
    if not backends:
        raise AudioError(unknown)
    try:
        with audioread.audio_open(os.fspath(path), backends=backends) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            data = b"".join(bytes(block) for block in file)
    except (audioread.DecodeError, OSError, EOFError) as error:
        raise AudioError(f"{path}: no decoder here reads it as audio; convert it to WAV or FLAC") from error
    whole = len(data) // (2 * channels) * (2 * channels)  # 16 bits a sample
    samples = np.frombuffer(data[:whole], dtype="<i2").astype(np.float32) / np.float32(2**15)
    _log.debug("%s: read by audioread, %d Hz, %d channels", path, rate, channels)
    return samples.reshape(-1, channels), rate
