from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import LIBRISPEECH, needs
from scipy.signal import resample_poly

from asr_lstm.audio import audio_info, load_utterance, read_audio
from asr_lstm.errors import AudioError
from asr_lstm.manifest import Utterance

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


def tone(*, rate: int, seconds: float = 1.0, hertz: float = 1000.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def noise(seconds: float = 1.0, *, rate: int = 16000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(rate * seconds)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16000, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def complaint(path: Path, **options: float) -> str:
    """What the reader says of a file: one line that begins with its name and offers a way out."""
    with pytest.raises(AudioError) as caught:
        read_audio(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.w64", "a.caf"])
def test_lossless_formats_come_back_as_written(name: str, tmp_path: Path) -> None:
    samples = noise()
    audio = read_audio(write(tmp_path / name, samples))
    assert audio.dtype == np.float32
    assert audio.shape == samples.shape
    np.testing.assert_allclose(audio, samples, atol=2**-15)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_lossy_formats_keep_length_pitch_and_level(name: str, tmp_path: Path) -> None:
    audio = read_audio(write(tmp_path / name, tone(rate=16000)))
    assert len(audio) == pytest.approx(16000, abs=1600)
    assert_tone(audio, hertz=1000.0, level=0.5, tolerance=0.02)


def assert_tone(audio: np.ndarray, *, hertz: float, level: float, tolerance: float) -> None:
    middle = audio[2000:-2000].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 16000 / len(middle) == pytest.approx(hertz, abs=2)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(level, abs=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_every_rate_becomes_the_models_and_agrees_with_scipy(rate: int, tmp_path: Path) -> None:
    original = tone(rate=rate) + tone(rate=rate, hertz=2500, level=0.2)
    audio = read_audio(write(tmp_path / "a.wav", original, rate, subtype="FLOAT"))
    factor = np.gcd(16000, rate)
    expected = resample_poly(original, 16000 // factor, rate // factor)
    assert abs(len(audio) - 16000) <= 1
    inner = slice(800, 15200)  # the filters differ in how they begin and end
    np.testing.assert_allclose(audio[inner], expected[inner], atol=3e-3)


def test_resampling_keeps_a_tone_and_removes_what_would_alias(tmp_path: Path) -> None:
    kept, above = tone(rate=48000, hertz=3000), tone(rate=48000, hertz=10000)
    assert_tone(read_audio(write(tmp_path / "a.wav", kept, 48000)), hertz=3000, level=0.5, tolerance=1e-3)
    aliased = read_audio(write(tmp_path / "b.wav", above, 48000))
    assert np.abs(aliased[200:-200]).max() < 1e-3


def test_a_lower_rate_can_be_asked_for(tmp_path: Path) -> None:
    assert len(read_audio(write(tmp_path / "a.wav", noise()), rate=8000)) == 8000


def test_eight_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.random.default_rng(1).uniform(-0.9, 0.9, (16000, 8))
    audio = read_audio(write(tmp_path / "a.wav", channels, subtype="FLOAT"))
    np.testing.assert_allclose(audio, channels.mean(axis=1), atol=1e-6)


def test_the_result_stays_within_full_scale(tmp_path: Path) -> None:
    loud = read_audio(write(tmp_path / "a.wav", 3 * noise(), subtype="FLOAT"))
    assert (loud.min(), loud.max()) == (-1.0, 1.0)
    square = np.sign(tone(rate=48000, hertz=200, level=1.0))  # resampling rings beyond its edges
    assert np.abs(read_audio(write(tmp_path / "b.wav", square, 48000, subtype="FLOAT"))).max() == 1.0


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize(("offset", "duration"), [(0.0, 0.5), (0.3, 0.4), (0.7, None), (0.55, 1.45)])
def test_a_stretch_is_the_same_as_cutting_the_whole(name, offset, duration, tmp_path: Path) -> None:
    path = write(tmp_path / name, noise(2.0))
    whole = read_audio(path)
    stop = None if duration is None else round((offset + duration) * 16000)
    expected = whole[round(offset * 16000) : stop]
    np.testing.assert_allclose(read_audio(path, offset=offset, duration=duration), expected, atol=1e-6)
    utterance = Utterance(path=path, text="", offset=offset, duration=duration or 2.0 - offset)
    np.testing.assert_allclose(load_utterance(utterance, rate=16000), expected, atol=1e-6)


def test_flac_from_a_pipe_has_no_length_and_is_read_whole(tmp_path: Path) -> None:
    samples = noise(5.0)
    data = bytearray(write(tmp_path / "a.flac", samples).read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the last 36 bits before the checksum count the samples, 0 for unknown
    data[22:26] = bytes(4)
    path = tmp_path / "pipe.flac"
    path.write_bytes(data)
    np.testing.assert_allclose(read_audio(path), samples, atol=2**-15)
    np.testing.assert_allclose(read_audio(path, offset=1, duration=1), samples[16000:32000], atol=2**-15)
    assert audio_info(path).seconds == 5.0


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_has_no_length_and_is_not_called_cut(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise())
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_audio(path)) == 16000


def test_info_tells_length_rate_and_channels(tmp_path: Path) -> None:
    info = audio_info(write(tmp_path / "a.flac", np.zeros((22050, 2)), 44100))
    assert (info.seconds, info.rate, info.channels) == (0.5, 44100, 2)


@needs(LIBRISPEECH)
def test_real_speech(tmp_path: Path) -> None:
    files = sorted(LIBRISPEECH.rglob("*.flac"))[:3]
    assert files
    for path in files:
        audio = read_audio(path)
        assert len(audio) == round(audio_info(path).seconds * 16000)
        assert 0.001 < np.sqrt(np.mean(audio**2)) < 0.5


def test_no_such_file_folder_and_empty_file(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.wav").startswith("no such file")
    assert complaint(tmp_path).startswith("is a folder")
    (tmp_path / "empty.wav").touch()
    assert complaint(tmp_path / "empty.wav").startswith("the file is empty")
    os.mkfifo(tmp_path / "pipe.wav")
    assert complaint(tmp_path / "pipe.wav").startswith("is not a regular file")
    assert complaint(tmp_path / "x.wav" / "y.wav").startswith("no such file")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", noise())
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read it all the same

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)
    assert complaint(path).startswith("no permission")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one folder on the path, empty at first: what is looked for on this machine does not count."""
    audioread = pytest.importorskip("audioread")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    audioread.available_backends(flush_cache=True)
    yield folder
    monkeypatch.undo()
    audioread.available_backends(flush_cache=True)


@pytest.mark.skipif(sys.platform == "darwin", reason="CoreAudio is always there and words it differently")
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.raw", "a.txt", "noextension"])
@pytest.mark.usefixtures("programs")
def test_text_is_not_audio(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("This was never a recording.\n" * 100)
    assert complaint(tmp_path / name).startswith("is not audio")
    with pytest.raises(AudioError, match="is not audio"):
        audio_info(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.aiff", "a.au", "a.w64"])
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_a_truncated_file_is_not_taken_for_a_short_one(name: str, kept: float, tmp_path: Path) -> None:
    data = write(tmp_path / name, noise(2.0)).read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(data[: int(kept * len(data))])
    assert complaint(cut).startswith("the file is cut short or damaged")


def test_ogg_cut_at_any_byte_of_its_last_page(tmp_path: Path) -> None:
    data = write(tmp_path / "a.ogg", noise(2.0)).read_bytes()
    last = data.rindex(b"OggS")
    for stop in [*range(last + 1, last + 30), *range(last + 30, len(data), 97), len(data) - 1]:
        (tmp_path / "a.ogg").write_bytes(data[:stop])
        assert complaint(tmp_path / "a.ogg").startswith("the file is cut short or damaged"), stop - last


def test_ogg_with_a_tag_after_its_end_is_not_called_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", noise())
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert len(read_audio(path)) == 16000


def test_a_truncated_flac_without_a_length_is_noticed(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.flac", noise(2.0)).read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    assert complaint(tmp_path / "a.flac").startswith("the file is cut short or damaged")


def test_damage_within_a_flac_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(2.0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    path.write_bytes(data)
    assert complaint(path).startswith("the file is cut short or damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    samples = np.stack([noise(), noise()], axis=1)
    samples[8000, 1] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert complaint(path).startswith("NaN or infinite samples (1, the first at 0.500 s)")
    assert complaint(path, offset=0.25).startswith("NaN or infinite samples (1, the first at 0.500 s)")
    assert len(read_audio(path, offset=0.6)) == 6400


def test_full_scale_at_32768_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 32768 * noise(), subtype="FLOAT")
    assert re.match(r"samples reach 163\d\d where full scale is 1", complaint(path))


def test_too_short(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(0.01))
    assert complaint(path).startswith("0.010 s of audio is too short (the least is 0.1 s)")
    assert len(read_audio(path, min_seconds=0.01)) == 160
    header = write(tmp_path / "b.wav", np.zeros(0))
    assert complaint(header, min_seconds=0.0).startswith("0.000 s of audio is too short")
    assert complaint(write(tmp_path / "c.wav", noise()), duration=0.05).startswith("0.050 s")


def test_an_absurd_rate(tmp_path: Path) -> None:
    assert complaint(write(tmp_path / "a.wav", noise(), 1)).startswith("a rate of 1 Hz")


def test_a_stretch_beyond_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise())
    assert complaint(path, offset=0.5, duration=1.0).startswith("0.5 to 1.5 s is asked for, but it is 1.00 s")
    assert complaint(path, offset=2.0).startswith("from 2 s is asked for")
    assert len(read_audio(path, duration=1.05)) == 16000  # a rounded manifest


@pytest.mark.parametrize("options", [{"rate": 0}, {"offset": -1.0}, {"offset": np.nan}, {"duration": -0.1}])
def test_impossible_arguments(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        read_audio(tmp_path / "a.wav", **options)


# Stands in for ffmpeg: reports on standard error and gives 16-bit samples on standard output.
FFMPEG = """#!{python}
import sys
if "-version" in sys.argv:
    sys.exit(0)
if {fails}:
    sys.exit("Invalid data found when processing input")
print("Input #0, mov,mp4,m4a, from 'a.m4a':\\n  Duration: 00:00:01.00, start: 0.0, bitrate: 70 kb/s\\n"
      "    Stream #0:0: Audio: aac (LC), 8000 Hz, stereo, fltp, 69 kb/s", file=sys.stderr, flush=True)
sys.stdout.buffer.write(open({samples!r}, "rb").read())
"""


@pytest.fixture
def m4a(tmp_path: Path) -> Path:
    left, right = tone(rate=8000), tone(rate=8000, level=0.3)
    pcm = (np.stack([left, right], axis=1) * 2**15).astype("<i2")
    (tmp_path / "pcm").write_bytes(pcm.tobytes())
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    return tmp_path / "a.m4a"


def install_ffmpeg(programs: Path, samples: Path, *, fails: bool) -> None:
    program = programs / "ffmpeg"
    program.write_text(FFMPEG.format(python=sys.executable, samples=str(samples), fails=fails))
    program.chmod(0o755)
    pytest.importorskip("audioread").available_backends(flush_cache=True)


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for ffmpeg is a script")
def test_what_libsndfile_lacks_is_read_by_ffmpeg(m4a: Path, programs: Path) -> None:
    install_ffmpeg(programs, m4a.with_name("pcm"), fails=False)
    assert_tone(read_audio(m4a), hertz=1000, level=0.4, tolerance=1e-3)
    assert len(read_audio(m4a, offset=0.25, duration=0.5)) == 8000
    info = audio_info(m4a)
    assert (info.seconds, info.rate, info.channels) == (1.0, 8000, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for ffmpeg is a script")
def test_what_ffmpeg_lacks_too_is_named(m4a: Path, programs: Path) -> None:
    install_ffmpeg(programs, m4a.with_name("pcm"), fails=True)
    assert complaint(m4a).startswith("no decoder here reads it")
