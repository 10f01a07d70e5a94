"""Pictures and sounds, read back by other programs' readers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from asr_lstm.report_page.pictures import GREYS, encode_audio, encode_picture


def test_a_picture_is_read_back_as_it_was() -> None:
    image = pytest.importorskip("PIL.Image")
    frames = np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)
    frames[0] = 9  # the first frame is the left column, black
    frames[:, 0] = -9  # the first band is the bottom row, white
    grey = np.asarray(image.open(io.BytesIO(encode_picture(frames))).convert("L")).astype(float)
    assert grey.shape == (5, 37)
    assert (grey[:4, 0] == 0).all()
    assert (grey[4] == 255).all()
    expected = 255 * (1 - np.clip((frames.T[::-1] + 2) / 5, 0, 1))
    assert np.abs(grey - expected).max() <= 255 / (GREYS - 1) / 2 + 1


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_sound_is_read_back_sample_by_sample_and_is_the_same_each_time(rate: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, rate // 3).astype(np.float32)
    data = encode_audio(samples, rate=rate)
    back, found = soundfile.read(io.BytesIO(data), dtype="float32")
    assert found == rate
    assert len(back) == len(samples)
    assert np.abs(back - samples).max() <= 2**-15
    assert encode_audio(samples, rate=rate) == data
