"""Which voices of espeak-ng read a language."""

from __future__ import annotations

import pytest

from asr_lstm.corpora.accents import find_accents, find_voice
from asr_lstm.corpora.espeak import Espeak, Voice
from asr_lstm.errors import ConfigError


@pytest.fixture(autouse=True)
def _espeak_is_installed() -> None:
    pytest.importorskip("espeakng_loader")


@pytest.mark.parametrize(
    ("lang", "voices"),
    [
        ("cs", ["cs"]),
        ("en-us", ["en-us", "en-us-nyc"]),
        ("FR", ["fr", "fr-be", "fr-ch"]),
        ("no", ["nb"]),  # what nb says of itself
        ("cmn", ["cmn"]),  # not pinyin
        ("cmn-latn-pinyin", ["cmn-latn-pinyin"]),
    ],
)
def test_accents(lang: str, voices: list[str]) -> None:
    assert find_accents(lang) == voices


@pytest.mark.parametrize(
    ("lang", "voice"),
    [("cs", "cs"), ("en-us", "en-us"), ("en", "en"), ("en-gb", "en"), ("FR-fr", "fr"), ("no", "nb")],
)
def test_one_voice_says_words_as_a_language_does(lang: str, voice: str) -> None:
    assert find_voice(lang) == voice


def test_english_has_many_and_each_is_heard() -> None:
    voices = find_accents("en")
    assert {"en", "en-029", "en-gb-scotland", "en-us"} <= set(voices)
    assert "en-shaw" not in voices
    spoken = {Espeak(Voice(voice)).speak("the bath is not far over there").tobytes() for voice in voices}
    assert len(spoken) == len(voices)


@pytest.mark.parametrize(
    ("lang", "said"), [("xx", "no language 'xx'"), ("zh", "there are cmn, yue"), ("", "''")]
)
def test_an_unknown_language_is_one_line(lang: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        find_accents(lang)
    assert "\n" not in str(caught.value)
