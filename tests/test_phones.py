"""Phones: what words are turned into, by espeak-ng or a pronouncing dictionary, and what a mistake is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asr_lstm.errors import ConfigError
from asr_lstm.phones import PhonesConfig, check_phones, make_phones, read_lexicon, split_ipa
from asr_lstm.units import Normaliser

# In the form of the CMU dictionary 0.7b, in Latin-1; the last line is in that of its successor.
CMU = """\
;;; # CMUdict  --  Major Version: 0.07
'CAUSE  K AH0 Z
CAUSE  K AA1 Z
CAUSE(1)  K AO1 Z
DON'T  D OW1 N T
THE  DH AH0
THE(1)  DH AH1
D\xc9J\xc0  D EY2 ZH AA1

lane L EY1 N # street
"""


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "cmudict"
    path.write_bytes(CMU.encode("latin-1"))
    return path


def test_the_cmu_dictionary_is_read_without_stress_and_further_pronunciations(lexicon: Path) -> None:
    assert read_lexicon(lexicon) == {
        "'cause": ["K", "AH", "Z"],
        "cause": ["K", "AA", "Z"],
        "don't": ["D", "OW", "N", "T"],
        "the": ["DH", "AH"],
        "déjà": ["D", "EY", "ZH", "AA"],
        "lane": ["L", "EY", "N"],
    }


def test_a_dictionary_of_another_language_keeps_its_digits(tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text("你好\tn i2 h a3 o\ndeux d 2\n", encoding="utf-8")
    assert read_lexicon(tmp_path / "lexicon") == {"你好": ["n", "i2", "h", "a3", "o"], "deux": ["d", "2"]}


def test_a_dictionary_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^phones\.lexicon: .*absent: cannot read it"):
        check_phones(PhonesConfig(share=0.3, lexicon=str(tmp_path / "absent")))
    (tmp_path / "words").write_text("CAT  K AE1 T\nDOG\n")
    with pytest.raises(ConfigError, match=r"words:2: 'DOG' has no phones"):
        check_phones(PhonesConfig(share=0.3, lexicon=str(tmp_path / "words")))


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("kˈæt", "k æ t"),
        ("bˌeɪsbˈɔːl", "b e ɪ s b ɔ l"),
        ("fˈɔːɹɾi tˈuː", "f ɔ ɹ ɾ i t u"),
        ("(en)wiːkˈɛnd(fr)", "w i k ɛ n d"),
        ("ni2χˈɑu2", "n i χ ɑ u"),
        ("", ""),
    ],
)
def test_phones_are_the_letters_of_a_pronunciation(ipa: str, phones: str) -> None:
    assert split_ipa(ipa) == phones.split()


def test_a_language_that_espeak_lacks_is_found_early() -> None:
    pytest.importorskip("espeakng_loader")
    check_phones(PhonesConfig(share=0.3, lang="cy"))
    check_phones(PhonesConfig(share=0.0, lang="tlh-nowhere"))
    with pytest.raises(ConfigError, match=r"^phones\.lang: espeak-ng has no language 'tlh-nowhere'"):
        check_phones(PhonesConfig(share=0.3, lang="tlh-nowhere"))


@pytest.mark.parametrize("lang", ["en-gb", "no", "fr-fr"])
def test_a_language_that_is_no_voice_of_its_own_has_phones(lang: str) -> None:
    pytest.importorskip("espeakng_loader")
    assert make_phones(PhonesConfig(share=0.3, lang=lang), ["are"], Normaliser()) is not None


def test_units_are_the_phones_of_the_training_words_in_order(lexicon: Path) -> None:
    config = PhonesConfig(share=0.3, lexicon=str(lexicon))
    texts = ["Don't, lane!", "The cause: zebra lane", "zebra, gnu"]
    phones = make_phones(config, texts, Normaliser())
    assert phones is not None
    assert phones.symbols == sorted({"D", "OW", "N", "T", "L", "EY", "DH", "AH", "K", "AA", "Z"})
    assert len(phones) == 12
    ids = phones.encode("Lane -- don't")
    assert [phones.symbols[phone - 1] for phone in ids] == ["L", "EY", "N", "D", "OW", "N", "T"]
    assert phones.encode("the zebra") == phones.encode("") == []
    assert phones.lacking == {"zebra": 2, "gnu": 1}
    assert "2 words (3 times in the transcripts)" in phones.remark
    assert "zebra, gnu" in phones.remark
    assert replace(phones, lacking=type(phones.lacking)()).remark == ""


def test_there_are_none_unless_they_are_wanted_and_known(lexicon: Path) -> None:
    assert make_phones(PhonesConfig(lexicon=str(lexicon)), ["the"], Normaliser()) is None
    with pytest.raises(ConfigError, match=r"cmudict knows no word of the training transcripts"):
        make_phones(PhonesConfig(share=0.3, lexicon=str(lexicon)), ["zebra"], Normaliser())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": -0.1, "lang": "en"}, r"phones\.share must be at least 0"),
        ({"share": 1.0, "lang": "en"}, r"phones\.share must be .* below 1"),
        ({"share": 0.3}, r"phones\.lang or phones\.lexicon"),
        ({"share": 0.3, "lang": "en", "lexicon": "cmudict"}, r"phones\.lang or phones\.lexicon"),
    ],
)
def test_settings_that_make_no_sense(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PhonesConfig(**options)
