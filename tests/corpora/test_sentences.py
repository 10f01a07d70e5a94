"""Sentences out of lists and prose."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.corpora.sentences import (
    as_spoken,
    cut_transcript,
    is_prose,
    read_sentences,
    speakable,
    split_prose,
)
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance, write_manifest

PROSE = """[A title]

Sir Walter Elliot, of Kellynch Hall, was a man who never took up
any book. There he found occupation! "Did he?" asked Mr. Smith, and
went on.

He left (with J. R. Brown.) Then all
was quiet"""
SENTENCES = [
    "[A title]",
    "Sir Walter Elliot, of Kellynch Hall, was a man who never took up any book.",
    "There he found occupation!",
    '"Did he?"',
    "asked Mr. Smith, and went on.",
    "He left (with J. R. Brown.)",
    "Then all was quiet",
]


def test_prose_is_split_over_the_ends_of_lines() -> None:
    assert is_prose(PROSE)
    assert split_prose(PROSE) == SENTENCES


@pytest.mark.parametrize(
    "text",
    ["", "MARK IS GOING\nI LIKE IT\n", "One.\nTwo!\nThree?\n", "\n".join(["A line."] * 40 + ["One. Two."])],
)
def test_a_sentence_a_line_is_no_prose(text: str) -> None:
    assert not is_prose(text)


def test_chinese_has_no_spaces_and_hindi_a_mark_of_its_own() -> None:
    assert split_prose("你好。今天天气很好！我们去公园。") == ["你好。", "今天天气很好！", "我们去公园。"]
    assert split_prose("यह एक घर है। वह बड़ा है।") == ["यह एक घर है।", "वह बड़ा है।"]


def test_long_sentences_are_cut_at_clauses_into_as_few_pieces_as_fit() -> None:
    clauses = [f"{letter * 30}," for letter in "abcdefg"]
    sentence = " ".join(clauses)
    pieces = split_prose(sentence, max_characters=70)
    assert pieces == [" ".join(clauses[0:2]), " ".join(clauses[2:4]), " ".join(clauses[4:6]), clauses[6]]
    assert split_prose("x" * 200, max_characters=70) == ["x" * 200]  # nowhere to cut
    assert split_prose("因为、所以、但是、" * 3, max_characters=10) == ["因为、所以、但是、"] * 3


def test_a_long_transcript_is_cut_between_words_where_it_has_no_clauses() -> None:
    words = " ".join(["word"] * 40)
    pieces = cut_transcript(words, max_characters=50)
    assert " ".join(pieces) == words
    assert [len(piece) for piece in pieces] == [49] * 4
    assert cut_transcript("one two,  three", max_characters=9) == ["one two,", "three"]
    assert cut_transcript("one two, three") == ["one two, three"]
    assert cut_transcript("字" * 200, max_characters=70) == ["字" * 200]
    assert cut_transcript(" ") == []


def test_what_its_letters_do_not_tell_is_left_out() -> None:
    kept = ["It's a dog.", "naïve, isn't it", "  two   spaces ", "It's a dog."]
    left_out = ["in 1984", "50 %", "a & b", "x@y", "...", "", "3", "a_b", "cost €"]
    assert speakable(kept + left_out) == ["It's a dog.", "naïve, isn't it", "two spaces"]


def test_capitals_are_not_spelt_out() -> None:
    assert as_spoken("THE US ARMY") == "the us army"
    assert as_spoken("The US army") == "The US army"


def test_files_of_every_kind_together(tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text(PROSE, encoding="utf-8")
    (tmp_path / "lines.txt").write_text("EEN REGEL\n\nNOG EEN\nEEN REGEL\n", encoding="utf-8")
    write_manifest(tmp_path / "rows.jsonl", [Utterance(tmp_path / "a.wav", "A ROW", 1.0)])
    paths = [tmp_path / name for name in ("lines.txt", "prose.txt", "rows.jsonl")]
    assert read_sentences(paths) == ["EEN REGEL", "NOG EEN", *SENTENCES, "A ROW"]


def test_nothing_to_say_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"numbers\.txt: no sentence of letters alone"):
        read_sentences([tmp_path / "numbers.txt"])
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_sentences([tmp_path / "absent.txt"])
