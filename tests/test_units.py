from __future__ import annotations

import random
import sys
import unicodedata

import pytest

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.units import BLANK_SYMBOL, CharacterUnits, Normaliser, Units

ALPHABETS = {
    "English": "abcdefghijklmnopqrstuvwxyz'",
    "Czech": "aábcčdďeéěfghiíjklmnňoópqrřsštťuúůvwxyýzž",
    "Hindi": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौ्ंँ़",
    "Yoruba": "aábdeẹfgijklmnoọprsṣtuwy\u0300\u0301",  # tones on dotted vowels have no composed form
    "Persian": "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی\u200c",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,\tWORLD!\n", "hello world"),
        ("Don't — don\u2019t; 'tis the dogs' bone", "don't don't tis the dogs bone"),
        ("rock 'n' roll", "rock n roll"),
        ("he said 'yes' and ''no''", "he said yes and no"),
        ("well-known and/or U.S.A.", "well known and or u s a"),
        ("snake_case 50 % €5 a+b", "snake case 50 5 a b"),
        ("col·legi · l'eau", "col·legi l'eau"),
        ("Příliš žluťoučký kůň", "příliš žluťoučký kůň"),
        ("नमस्ते। आप कैसे हैं?", "नमस्ते आप कैसे हैं"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ufeffzero\u200bwidth soft\u00adhyphen \u200emark", "zero width softhyphen mark"),
        ("e-\u0301", "e \u0301"),
        ("ΟΔΟΣ.ΧΑΟΣ", "οδος χαος"),
        ("", ""),
        ("!?…", ""),
    ],
)
def test_default_normaliser(text: str, expected: str) -> None:
    assert Normaliser()(text) == expected


def test_accents_are_composed_however_they_were_typed() -> None:
    assert Normaliser()("Cafe\u0301") == Normaliser()("Café") == "café"
    assert Normaliser(casing="upper")("\u01f0") == "J\u030c"  # its upper case has no composed form


def test_settings_choose_casing_punctuation_and_compatibility() -> None:
    text = "Straße, “ﬁn” Ａ"
    assert Normaliser(casing="upper")(text) == "STRASSE FIN Ａ"
    assert Normaliser(casing="keep", punctuation="keep")(text + " ") == text
    assert Normaliser(unicode="NFKC")(text) == "straße fin a"
    assert Normaliser(punctuation="keep")("It\u2019s  - 'so'") == "it\u2019s - 'so'"


@pytest.mark.parametrize("unicode", ["NFC", "NFKC"])
@pytest.mark.parametrize("casing", ["lower", "upper", "keep"])
@pytest.mark.parametrize("punctuation", ["keep", "remove"])
def test_normalising_twice_changes_nothing_more(unicode: str, casing: str, punctuation: str) -> None:
    normaliser = Normaliser(unicode, casing, punctuation)  # type: ignore[arg-type]
    generator = random.Random(0)
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assigned = [character for character in characters if unicodedata.category(character) not in ("Cn", "Co")]
    texts = ["a" + character + "\u0301b" for character in generator.sample(assigned, 4000)]
    texts += ["".join(generator.choices(" '’a.·-e\u0301\u0323", k=12)) for _ in range(500)]
    for text in texts:
        once = normaliser(text)
        assert normaliser(once) == once, [hex(ord(character)) for character in text]


def test_a_misspelt_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"casing: 'small' is not one of lower, upper, keep"):
        Normaliser(casing="small")  # type: ignore[arg-type]


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_any_script_comes_back_from_its_ids_and_its_file(alphabet: str, tmp_path) -> None:
    generator = random.Random(1)
    texts = ["".join(generator.choices(alphabet + "   ", k=30)) for _ in range(50)]
    normaliser = Normaliser()
    units = CharacterUnits.from_texts(texts, normaliser)
    units.save(tmp_path / "units.txt")
    loaded = CharacterUnits.load(tmp_path / "units.txt", normaliser)
    assert loaded == units
    for text in texts:
        ids = loaded.encode(text)
        assert all(0 < unit < len(loaded) for unit in ids)
        assert loaded.decode(ids) == normaliser(text)


def test_the_file_shows_one_symbol_a_line_and_its_number_is_the_id(tmp_path) -> None:
    units = CharacterUnits.from_texts(["A cab", "bé"], Normaliser())
    units.save(tmp_path / "units.txt")
    lines = (tmp_path / "units.txt").read_text(encoding="utf-8").split("\n")
    assert lines == ["<blank>", "<space>", "a", "b", "c", "é", ""]
    assert units.encode("b") == [lines.index("b")]
    assert len(units) == 6


def test_a_file_edited_on_windows_loads(tmp_path) -> None:
    (tmp_path / "units.txt").write_bytes(b"<blank>\r\n<space>\r\na\r\n")
    assert CharacterUnits.load(tmp_path / "units.txt").symbols == (" ", "a")


def test_characters_are_units() -> None:
    units = CharacterUnits("ab")
    assert isinstance(units, Units)
    assert units.kind == "characters"


def test_a_lacking_character_is_refused_with_its_place_and_code() -> None:
    units = CharacterUnits(" abc'")
    expected = r"^train\.jsonl:12: the units lack 'é' \(U\+00E9\), '◌̈' \(U\+0308\), 'z' \(U\+007A\); "
    with pytest.raises(DataError, match=expected):
        units.encode("aé\u0308zéz", where="train.jsonl:12")
    with pytest.raises(DataError, match=r"^the units lack 'z'"):
        units.encode("z")
    assert units.unknown("Zebra é") == ["z", "e", "r", "é"]
    assert units.unknown("A, CAB!") == []


def test_decoding_gives_single_spaces_and_composed_letters() -> None:
    units = CharacterUnits([" ", "a", "e", "\u0301"])
    assert units.decode([1, 2, 1, 1, 3, 4, 1]) == "a \u00e9"
    assert units.decode([]) == ""


@pytest.mark.parametrize("unit", [0, -1, 3])
def test_decoding_refuses_what_is_no_unit(unit: int) -> None:
    with pytest.raises(ValueError, match=rf"ids: {unit} is not a unit from 1 to 2"):
        CharacterUnits("ab").decode([1, unit])


@pytest.mark.parametrize(
    ("symbols", "complaint"),
    [
        ([], "empty"),
        (["a", "bc"], "unit 2: 'bc' is not a single character"),
        (["a", ""], "unit 2: '' is not a single character"),
        (["\n"], "unit 1: '\\\\n' is not a single character"),
        (["a", "b", "a"], r"unit 1: 'a' \(U\+0061\) stands there twice"),
    ],
)
def test_impossible_symbols_are_refused(symbols: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        CharacterUnits(symbols)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", ":1: not a file of units"),
        (b"a\nb\n", f":1: not a file of units: the first line must be {BLANK_SYMBOL}"),
        (b"<blank>\n\xff\n", "it is not UTF-8 text"),
        (b"<blank>\na\n\nb\n", "unit 2: '' is not a single character"),
        (b"<blank>\n", "the units are empty"),
        (None, "cannot read the units"),
    ],
)
def test_a_broken_file_is_named(content: bytes | None, complaint: str, tmp_path) -> None:
    path = tmp_path / "units.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        CharacterUnits.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_text_gives_no_units() -> None:
    with pytest.raises(DataError, match="no text"):
        CharacterUnits.from_texts(["", " ?! "])
