"""What kenlm makes of small texts; see tests/assets/ngram/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "ngram"


@pytest.fixture(scope="session")
def ngram_assets() -> Path:
    return ASSETS


@pytest.fixture(scope="session")
def kenlm_says() -> dict[str, Any]:
    """expected.json: what lmplz trained, and how kenlm scores."""
    return json.loads((ASSETS / "expected.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]
