from __future__ import annotations

import csv
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.corpora.tables import BROKEN_ROW, read_table
from asr_lstm.corpora.validate import MISSING, UNTRUE_DURATION
from asr_lstm.errors import DataError


def _audio(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _table(folder: Path, name: str, text: str, *, encoding: str = "utf-8") -> Path:
    """A table with a recording beside it for each letter from a to f."""
    _audio(folder, *(f"{letter}.wav" for letter in "abcdef"))
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def _pairs(path: Path) -> list[tuple[str, str]]:
    return [(row.path.name, row.text) for row in read_table(path).rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "path,text\na.wav,hello\nb.wav,good bye\n"),
        ("t.csv", "path,text\r\na.wav,hello\r\nb.wav,good bye"),
        ("t.csv", "text,path\nhello,a.wav\ngood bye,b.wav\n"),
        ("t.csv", "Sentence;File_Name;age\nhello;a.wav;7\ngood bye;b.wav;8\n"),
        ("t.csv", " path , text \na.wav, hello\nb.wav,  good  bye \n"),
        ("t.csv", 'path,text\n\n"a.wav","hello"\n"b.wav","good\nbye"\n\n'),
        ("t.csv", "path,text\na,hello\nb,good bye\n"),
        ("t.csv", "a.wav,hello\nb.wav,good bye\n"),
        ("t.csv", "sep=;\r\nage;path;text;mood\r\n7;a.wav;hello;x\r\n8;b.wav;good bye;x\r\n"),
        ("t.csv", "# my recordings, of May\n\npath,text,mood\na.wav,hello,x\nb.wav,good bye,x\n"),
        ("t.tsv", "client_id\tpath\tsentence\n1\ta.wav\thello\n2\tb.wav\tgood bye\n"),
        ("t.csv", "a|Hello, you|hello\nb|Good, \"bye|good bye\n"),
        ("t.csv", "audio|transcript\na.wav|hello\nb.wav|good bye\n"),
        ("t.jsonl", '{"audio_filepath": "a.wav", "text": "hello"}\n\n{"text": "good bye", "audio_filepath": "b.wav"}'),
        ("t.jsonl", '{"file_name": "a.wav", "sentence": "hello"}\n{"file_name": "b", "sentence": "good bye"}'),
    ],
)  # fmt: skip
def test_the_usual_layouts(tmp_path: Path, name: str, text: str) -> None:
    assert _pairs(_table(tmp_path, name, text)) == [("a.wav", "hello"), ("b.wav", "good bye")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_text(tmp_path: Path, encoding: str) -> None:
    path = _table(tmp_path, "t.csv", "path,text\na.wav,příliš žluťoučký\n", encoding=encoding)
    assert _pairs(path) == [("a.wav", "příliš žluťoučký")]


def test_common_voice_as_it_is_published(tmp_path: Path) -> None:
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tlocale\tsegment"
    text = f'{header}\n9f\tcommon_voice_nl_1.mp3\t77\t"Eén" keer\t2\tfifties\tnl\t\n'
    _audio(tmp_path, "clips/common_voice_nl_1.mp3")
    (row,) = read_table(_table(tmp_path, "train.tsv", text)).rows
    assert row.path == tmp_path / "clips" / "common_voice_nl_1.mp3"
    assert (row.text, row.speaker, row.lang, row.id) == ('"Eén" keer', "9f", "nl", "")
    assert row.extra["age"] == "fifties"
    assert "segment" not in row.extra  # empty


def test_ljspeech_as_it_is_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = 'LJ1|In 1455, "he" said|in fourteen fifty-five, "he" said\nLJ2|a|b|c\nLJ3|x|x\n'
    _audio(tmp_path, "wavs/LJ1.wav", "wavs/LJ2.wav", "wavs/LJ3.wav")
    with caplog.at_level(logging.WARNING):
        listing = read_table(_table(tmp_path, "metadata.csv", text))
    assert [(row.path.name, row.text) for row in listing.rows] == [
        ("LJ1.wav", 'in fourteen fifty-five, "he" said'),
        ("LJ3.wav", "x"),
    ]
    assert [item.id for item in listing.dropped] == ["metadata.csv:2"]
    assert "no header" in caplog.text


def test_all_columns_are_kept_or_used(tmp_path: Path) -> None:
    text = "utt,wav,transcript,speaker_id,language,subset,start,end,mood\nu1,a.wav,hello,anna,en,train,1.5,2.25,glad\n"
    (row,) = read_table(_table(tmp_path, "t.csv", text)).rows
    assert (row.id, row.speaker, row.lang, row.split, row.offset, row.duration) == (
        "u1",
        "anna",
        "en",
        "train",
        1.5,
        0.75,
    )
    assert row.extra["mood"] == "glad"
    assert row.extra["speaker_id"] == "anna"  # `speaker: speaker_id` may still name it
    assert not {"wav", "transcript", "start", "end"} & set(row.extra)


@pytest.mark.parametrize(
    ("columns", "cells", "expected"),
    [
        ("offset,duration", "1,0.5", (1.0, 0.5)),
        ("offset,duration", "1,", (1.0, 0.0)),
        ("offset,duration", ",", (0.0, 0.0)),
        ("start,end", "1,1.5", (1.0, 0.5)),
        ("start,end", ",", (0.0, 0.0)),
        ("start,end,duration", "1,9,0.5", (1.0, 0.5)),
        ("duration", "7", (0.0, 0.0)),  # of whole files the file itself knows it
    ],
)
def test_stretches(tmp_path: Path, columns: str, cells: str, expected: tuple[float, float]) -> None:
    path = _table(tmp_path, "t.csv", f"path,text,{columns}\na.wav,x,{cells}\n")
    (row,) = read_table(path).rows
    assert (row.offset, row.duration) == expected


@pytest.mark.parametrize(
    ("columns", "cells"),
    [("offset", "soon"), ("start,end", "2,1"), ("start,end", "2,"), ("offset,duration", "0,long")],
)
def test_times_that_make_no_sense_are_listed(tmp_path: Path, columns: str, cells: str) -> None:
    path = _table(tmp_path, "t.csv", f"path,text,{columns}\na.wav,x,{cells}\nb.wav,y,0,1\n")
    listing = read_table(path)
    assert [row.text for row in listing.rows] == (["y"] if len(columns.split(",")) == 2 else [])
    assert listing.dropped[0].reason.startswith(UNTRUE_DURATION)
    assert "t.csv:2" in listing.dropped[0].reason


@pytest.mark.parametrize(
    ("row", "kept", "reason"),
    [
        ('b.wav,"never closed', [], "quotes do not match"),
        ('b.wav,"closed" too early', [], "quotes do not match"),
        ('b.wav,a "quoted" word', [("b.wav", 'a "quoted" word')], ""),
        ('b.wav,"a ""quoted"" word, twice"', [("b.wav", 'a "quoted" word, twice')], ""),
        ('b.wav,"opened here\nd.wav,closed there"', [("d.wav", 'closed there"')], "quotes do not match"),
        ('b.wav,"two\nlines"', [("b.wav", "two lines")], ""),
        ("b.wav,one, two", [], "3 cells under 2 columns; put text that holds a ',' in quotes"),
        ("b.wav,one,,", [("b.wav", "one")], ""),
        ("b.wav", [("b.wav", "")], ""),
        (",text", [], "no path in the row"),
        ("gone.wav,text", [], "no file 'gone.wav'"),
        (f"{'x' * 5000}.wav,text", [], "no file"),
        (f'b.wav,"{"x" * 200_000}"', [], "quotes do not match"),
    ],
)
def test_a_broken_row_costs_itself_alone(
    tmp_path: Path, row: str, kept: list[tuple[str, str]], reason: str
) -> None:
    path = _table(tmp_path, "t.csv", f"path,text\na.wav,first\n{row}\nc.wav,last\n" + "e.wav,more\n" * 30)
    listing = read_table(path)
    found = [(row.path.name, row.text) for row in listing.rows]
    assert found == [("a.wav", "first"), *kept, ("c.wav", "last"), *[("e.wav", "more")] * 30]
    assert [reason in item.reason for item in listing.dropped] == [True] * bool(reason)
    for item in listing.dropped:
        assert "t.csv:3" in (item.id, item.reason.rpartition("(")[2].rstrip(")"))
        assert item.reason.startswith((BROKEN_ROW, MISSING))


@pytest.mark.parametrize(("disk", "table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_marks_are_found_however_the_disk_writes_them(
    tmp_path: Path, disk: Any, table: Any
) -> None:
    on_disk, written = (unicodedata.normalize(form, "žluťoučký kůň") for form in (disk, table))
    _audio(tmp_path, f"clips/{on_disk}.wav")
    (row,) = read_table(_table(tmp_path, "t.csv", f"path,text\n{written},x\n")).rows
    assert row.path == tmp_path / "clips" / f"{on_disk}.wav"


def test_line_breaks_in_what_names_a_row_are_spaces(tmp_path: Path) -> None:
    text = 'path,text,id,speaker\na.wav,x,"u\n1","anna\r\nb "\ngone.wav,x,"u\n2",c\n'
    listing = read_table(_table(tmp_path, "t.csv", text))
    assert [(row.id, row.speaker) for row in listing.rows] == [("u 1", "anna b")]
    assert [item.id for item in listing.dropped] == ["u 2"]


def test_names_with_spaces_quotes_and_line_breaks(tmp_path: Path) -> None:
    names = [
        " lead.wav",
        "two words.wav",
        'say "a".wav',
        "new\nline.wav",
        "it's, ok.wav",
        "कमल שלום.wav",
        "a\tb.wav",
    ]
    _audio(tmp_path, *names)
    table = tmp_path / "t.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("path", "text"), *((name, "x") for name in names)])
    assert [row.path for row in read_table(table).rows] == [tmp_path / name for name in names]
    lines = tmp_path / "t.jsonl"
    lines.write_text("".join(json.dumps({"path": name, "text": "x"}) + "\n" for name in names))
    assert [row.path for row in read_table(lines).rows] == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "t.csv",
            "path,words\na.wav,x\n",
            "no column for the transcript (there are path, words); name it text or",
        ),
        ("t.csv", "sound,text\na.wav,x\n", "no column for the recording's path (there are sound, text)"),
        ("t.jsonl", '{"path": "a.wav"}\n', "no column for the transcript"),
        ("t.csv", "one,two\nthree,four\n", "no header that names the columns (the first line is 'one,two')"),
        (
            "t.csv",
            "path,text,Text\na.wav,x,y\n",
            "2 columns are named 'text'; rename those that are not meant",
        ),
        ("t.csv", "", "it is empty"),
        ("t.jsonl", "\n\n", "it is empty"),
        ("t.csv", "path,text\n", "no row can be read (it is empty)"),
        ("t.jsonl", "path,text\na.wav,x\n", "no row can be read (line 1: not JSON"),
        ("t.jsonl", "[1]\n", "not a JSON object"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = _table(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = _table(tmp_path, "t.csv", "path,text\na.wav,ok\nb.wav,één\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"t\.csv:3: not UTF-8 text"):
        read_table(path)


@pytest.mark.parametrize("value", [None, True, ["x"], {"path": "a.wav"}, "NaN"])
def test_json_values_that_are_no_text(tmp_path: Path, value: Any) -> None:
    written = value if value == "NaN" else json.dumps(value)
    text = '{"path": "a.wav", "text": "x"}\n{"path": "b.wav", "text": %s}\n{"path": %s, "text": "y"}\n'
    listing = read_table(_table(tmp_path, "t.jsonl", text % (written, written)))
    assert [(row.path.name, row.text) for row in listing.rows] == [("a.wav", "x"), ("b.wav", "")]
    assert [item.id for item in listing.dropped] == ["t.jsonl:3"]


def test_numbers_in_json_are_words(tmp_path: Path) -> None:
    text = '{"path": "a.wav", "text": 7, "speaker": 12, "id": 3}\n'
    (row,) = read_table(_table(tmp_path, "t.jsonl", text)).rows
    assert (row.text, row.speaker, row.id) == ("7", "12", "3")


def test_a_broken_line_of_json_is_listed(tmp_path: Path) -> None:
    text = '{"path": "a.wav", "text": "x"}\n{"path": "b.wav",\n"nothing"\n{"path": "c.wav", "text": "y"}\n'
    listing = read_table(_table(tmp_path, "t.jsonl", text))
    assert [row.path.name for row in listing.rows] == ["a.wav", "c.wav"]
    assert [item.id for item in listing.dropped] == ["t.jsonl:2", "t.jsonl:3"]
    assert all(item.reason.startswith(BROKEN_ROW) for item in listing.dropped)


def test_further_cells_are_kept_whatever_they_are(tmp_path: Path) -> None:
    rows = (
        '{"path": "a.wav", "text": "x", "label": 0, "score": 0.0, "noisy": false, "note": "", "who": null}\n'
    )
    (row,) = read_table(_table(tmp_path, "t.jsonl", rows)).rows
    assert row.extra == {"label": 0, "score": 0.0, "noisy": False}
