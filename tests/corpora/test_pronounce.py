"""espeak-ng says words in a process of its own."""

from __future__ import annotations

import shutil
import sys

import pytest

from asr_lstm.corpora.espeak import Espeak, Voice
from asr_lstm.corpora.pronounce import pronounce
from asr_lstm.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _espeak_is_installed() -> None:
    pytest.importorskip("espeakng_loader")


def test_words_are_said_beside_a_voice_that_this_process_has() -> None:
    german = Espeak(Voice("de"))
    before = german.phonemes("weekend")
    words = ["cat", "don't", "42", "'", "thing", "error"]
    # As `espeak-ng -q --ipa -v en-us WORD` prints them.
    expected = ["kˈæt", "dˈoʊnt", "fˈɔːɹɾi tˈuː", "", "θˈɪŋ", "ˈɛɹɚ"]
    assert pronounce(words, lang="en-us") == expected
    assert german.phonemes("weekend") == before


def test_no_words_are_said_and_no_such_language_is_told() -> None:
    assert pronounce([], lang="cy") == []
    with pytest.raises(ConfigError, match=r"^tlh-nowhere: espeak-ng has no language"):
        pronounce([], lang="tlh-nowhere")


def test_a_process_that_dies_is_no_pronunciation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(DataError, match="en-us: the espeak-ng process ended with status 1"):
        pronounce(["cat"], lang="en-us")
