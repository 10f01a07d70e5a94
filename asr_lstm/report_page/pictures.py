"""Sound and spectrograms small enough to stand within a page."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr_lstm.pages import Markup

GREYS = 32  # of a spectrogram: more cannot be told apart, and fewer compress better
# Features are normalised to mean 0 and deviation 1: what lies outside is as good as white or black.
_LOWEST, _HIGHEST = -2.0, 3.0


def encode_audio(samples: NDArray[np.float32], *, rate: int) -> bytes:
    """A FLAC file of 16 bits.

    FLAC rather than Ogg Opus, a third of the size: nothing that the model did not hear is added, every browser
    plays it, and the same samples give the same bytes (libsndfile numbers Ogg streams at random).

    Args:
        samples: (samples,) in [-1, 1].
        rate: in Hz.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def encode_picture(frames: NDArray[np.float32]) -> bytes:
    """A PNG of normalised features, time to the right, the first band at the bottom, high values dark.

    Args:
        frames: (frames, bands).
    """
    share = np.clip((frames.T[::-1] - _LOWEST) / (_HIGHEST - _LOWEST), 0.0, 1.0)
    levels = np.round((1 - share) * (GREYS - 1)).astype(np.uint8)
    height, width = levels.shape
    palette = b"".join(bytes([round(255 * level / (GREYS - 1))] * 3) for level in range(GREYS))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits into a palette, not interlaced
    rows = b"".join(b"\0" + row.tobytes() for row in levels)  # 0: each row as it is
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file (W3C, PNG specification, section 5.3)."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def data_url(data: bytes, kind: str) -> Markup:
    """Bytes as an address within the page itself."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")
