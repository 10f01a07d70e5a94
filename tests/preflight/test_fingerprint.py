from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from asr_lstm.preflight.fingerprint import Codes, find_matches, fingerprint

Samples = NDArray[np.float32]


def speech(folder: Path) -> list[Samples]:
    """Real utterances, (samples,) at 16 kHz each."""
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.rglob("*.flac"))]


def stored_as(samples: Samples, **options: str) -> tuple[Samples, int]:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, **options)
    file.seek(0)
    read, rate = soundfile.read(file, dtype="float32")
    return read, rate


def variants(samples: Samples) -> dict[str, tuple[Samples, int]]:
    return {
        "quieter": (0.3 * samples, 16_000),
        "mp3": stored_as(samples, format="MP3"),
        "vorbis": stored_as(samples, format="OGG", subtype="VORBIS"),
        "8 kHz": (soxr.resample(samples, 16_000, 8_000).astype(np.float32), 8_000),
        "44.1 kHz": (soxr.resample(samples, 16_000, 44_100).astype(np.float32), 44_100),
        "cut": (samples[3700:-1000], 16_000),
    }


def test_real_speech_is_found_in_other_forms_and_never_taken_for_another(librispeech_excerpt: Path) -> None:
    utterances = speech(librispeech_excerpt)[:40]
    prints = [fingerprint(samples, rate=16_000) for samples in utterances]
    assert find_matches(prints) == []
    for index in (0, 13, 37):
        for name, (samples, rate) in variants(utterances[index]).items():
            matches = find_matches([*prints, fingerprint(samples, rate=rate)])
            assert [(match.first, match.second) for match in matches] == [(index, 40)], name
            assert matches[0].different < 0.15


def chirp(seed: int, seconds: float) -> Samples:
    random = np.random.default_rng(seed)
    return np.convolve(random.normal(size=round(16_000 * seconds)), random.normal(size=9), "same").astype(
        np.float32
    )


@pytest.mark.parametrize(
    "samples",
    [np.zeros(16_000 * 5, np.float32), np.zeros(0, np.float32), chirp(0, 0.3)],
    ids=["silence", "nothing", "short"],
)
def test_what_holds_too_little_matches_nothing(samples: Samples) -> None:
    codes = fingerprint(samples, rate=16_000)
    assert find_matches([codes, codes]) == []


def test_overlaps_of_about_a_second_and_more_are_compared() -> None:
    def match(seconds: float) -> bool:
        codes = fingerprint(chirp(1, seconds), rate=16_000)
        return bool(find_matches([codes, codes]))

    assert [match(1.0), match(1.3)] == [False, True]


def test_the_difference_is_the_share_of_bits_that_differ() -> None:
    random = np.random.default_rng(0)
    first: Codes = random.integers(1, 2**32, 100, dtype=np.uint32)
    second = first.copy()
    second[50:] ^= np.uint32(0b1111)  # 4 of 32 bits in half of the codes
    (match,) = find_matches([first, second])
    assert (match.first, match.second, match.different) == (0, 1, 1 / 16)
    # At a distance the overlap alone counts.
    (match,) = find_matches([first, second[20:]])
    assert match.different == pytest.approx(50 * 4 / (80 * 32))
    assert find_matches([first, first ^ np.uint32(0xFF)]) == []
