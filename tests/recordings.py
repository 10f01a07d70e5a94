"""Where the recordings and texts of people lie that some tests read; these skip where there are none.

They are too large, or not ours, to be in the repository. ASR_LSTM_TEST_DATA names another folder of the same layout.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("ASR_LSTM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DIGITS = DATA / "fsdd"
LIBRISPEECH = DATA / "librispeech" / "LibriSpeech"
SPEECHOCEAN762 = DATA / "speechocean762"
TEXTS = DATA / "text"
YESNO = DATA / "yesno"


def needs(path: Path) -> pytest.MarkDecorator:
    """Mark a test that reads `path`: it is skipped where nothing is there, and says so."""
    return pytest.mark.skipif(not path.exists(), reason=absent(path))


def absent(path: Path) -> str:
    """Why a test is skipped."""
    return f"nothing at {path}; ASR_LSTM_TEST_DATA says where recordings for tests are"
