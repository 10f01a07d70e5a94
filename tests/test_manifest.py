from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance, iter_manifest, read_manifest, write_manifest

ROW = {"audio_filepath": "a.wav", "text": "hello", "duration": 1.5}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8"
    )
    return path


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / "a.wav", "hello", 1.25),
        Utterance(
            tmp_path / "deep" / "b c.flac", 'Příliš žluťoučký\t"kůň"\u2028', 0.1 + 0.2, offset=3.0, id="b1"
        ),
        Utterance(
            Path("/elsewhere/c.wav"),
            "",
            9.0,
            speaker="19",
            lang="cs",
            extra={"snr": 3.5, "words": ["x", None]},
        ),
    ]
    write_manifest(tmp_path / "new" / "m.jsonl", [])
    write_manifest(tmp_path / "m.jsonl", iter(utterances))
    assert read_manifest(tmp_path / "m.jsonl") == utterances
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8").count("\n") == 3


def test_audio_below_the_manifest_is_named_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    write_manifest(
        folder / "m.jsonl",
        [Utterance(folder / "audio" / "a.wav", "x", 1.0), Utterance(tmp_path / "outside.wav", "x", 1.0)],
    )
    names = [json.loads(line)["audio_filepath"] for line in (folder / "m.jsonl").read_text().splitlines()]
    assert names == ["audio/a.wav", str(tmp_path / "outside.wav")]

    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "moved" / "m.jsonl", Path("moved/m.jsonl")):
        assert [utterance.path for utterance in read_manifest(path)] == [
            tmp_path / "moved" / "audio" / "a.wav",
            tmp_path / "outside.wav",
        ]


def test_a_manifest_reached_through_a_link_still_names_audio_below_it_relatively(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "exp"
    link.symlink_to(tmp_path / "disk")
    write_manifest(link / "m.jsonl", [Utterance(link / "a.wav", "x", 1.0)])
    assert json.loads((link / "m.jsonl").read_text())["audio_filepath"] == "a.wav"


def test_what_a_row_leaves_out(tmp_path: Path) -> None:
    (utterance,) = read_manifest(write_rows(tmp_path / "m.jsonl", ROW))
    assert utterance == Utterance(
        tmp_path / "a.wav", "hello", 1.5, offset=0.0, speaker="", id="a", lang="", extra={}
    )


def test_what_further_fields_say_does_not_stand_for_a_field(tmp_path: Path) -> None:
    row = Utterance(tmp_path / "a.wav", "a", 1.0, extra={"speaker": "ann", "offset": 3.0, "note": 1})
    write_manifest(tmp_path / "m.jsonl", [row])
    (found,) = read_manifest(tmp_path / "m.jsonl")
    assert (found.speaker, found.offset, found.extra) == ("", 0.0, {"note": 1})


def test_numbers_may_stand_where_names_are_meant(tmp_path: Path) -> None:
    rows = [ROW | {"id": place, "speaker": place} for place in range(3)]
    utterances = read_manifest(write_rows(tmp_path / "m.jsonl", *rows))
    assert [(utterance.id, utterance.speaker) for utterance in utterances] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]


def test_further_fields_are_kept_as_they_were(tmp_path: Path) -> None:
    extra = {"pred_text": "helo", "nested": {"a": [1, 2.5, None, True]}}
    (utterance,) = read_manifest(write_rows(tmp_path / "m.jsonl", ROW | extra))
    assert utterance.extra == extra
    write_manifest(tmp_path / "again.jsonl", [utterance])
    assert read_manifest(tmp_path / "again.jsonl") == [utterance]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not JSON"),
        ('{"audio_filepath": "b.wav", "text": "x", "duration": 1.0', "not JSON"),
        ("hello", "not JSON"),
        ('["b.wav", "x", 1.0]', "must be a JSON object, not list"),
        ('"b.wav"', "must be a JSON object, not str"),
        ("null", "must be a JSON object, not NoneType"),
        ({"text": "x", "duration": 1.0}, "`audio_filepath` is missing or not text"),
        (ROW | {"audio_filepath": 3}, "`audio_filepath` is missing or not text"),
        ({"audio_filepath": "b.wav", "duration": 1.0}, "`text` is missing or not text"),
        (ROW | {"text": None}, "`text` is missing or not text"),
        (ROW | {"text": ["x"]}, "`text` is missing or not text"),
        ({"audio_filepath": "b.wav", "text": "x"}, "`duration` must be a number of seconds, not None"),
        (ROW | {"duration": "1.0"}, "`duration` must be a number of seconds, not '1.0'"),
        (ROW | {"duration": True}, "`duration` must be a number of seconds, not True"),
        (ROW | {"duration": -1.0}, "`duration` must be a number of seconds, not -1.0"),
        (ROW | {"duration": float("nan")}, "`duration` must be a number of seconds, not nan"),
        (ROW | {"duration": float("inf")}, "`duration` must be a number of seconds, not inf"),
        (ROW | {"duration": 10**400}, "`duration` must be a number of seconds"),
        (ROW | {"offset": -0.5}, "`offset` must be a number of seconds, not -0.5"),
        (ROW | {"offset": None}, "`offset` must be a number of seconds, not None"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(row: object, reason: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", ROW, "", row)
    message = complaint(path)
    assert message.startswith(":3: ")
    assert reason in message


@pytest.mark.parametrize(
    "row", ["[" * 100_000, '{"duration": ' + "1" * 5000 + "}"], ids=["too deep", "too many digits"]
)
def test_a_row_that_the_parser_gives_up_on_is_named_too(row: str, tmp_path: Path) -> None:
    assert complaint(write_rows(tmp_path / "m.jsonl", ROW, row)).startswith(":2: ")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(ROW), encoding="utf-8-sig")
    assert [utterance.id for utterance in read_manifest(path)] == ["a"]


def test_an_id_that_occurs_twice_names_both_lines(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"audio_filepath": "b.wav"}, ROW | {"audio_filepath": "c.flac", "id": "a"}]
    assert complaint(write_rows(tmp_path / "m.jsonl", *rows)) == (
        ":3: id 'a' stands already in line 1; give each row its own `id`"
    )


def test_files_of_one_name_in_several_folders_need_no_ids(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"audio_filepath": "other/a.flac"}, ROW | {"offset": 1.0}]
    assert [row.id for row in read_manifest(write_rows(tmp_path / "m.jsonl", *rows))] == ["a", "a-2", "a-3"]


def test_rows_before_the_broken_one_are_given_one_by_one(tmp_path: Path) -> None:
    rows = iter_manifest(write_rows(tmp_path / "m.jsonl", ROW, "{"))
    assert next(rows).id == "a"
    with pytest.raises(DataError):
        next(rows)


@pytest.mark.parametrize("content", ["", "\n  \n\n"])
def test_an_empty_manifest(content: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    assert "the manifest is empty" in complaint(path)
    assert list(iter_manifest(path)) == []


@pytest.mark.parametrize("content", [b"RIFF\xff\xfe\x00\x80WAVE", json.dumps(ROW).encode("utf-16")])
def test_what_is_not_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    assert "not UTF-8" in complaint(path)


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    assert "cannot read the manifest (No such file or directory)" in complaint(tmp_path / "none.jsonl")
    assert "cannot read the manifest (Is a directory)" in complaint(tmp_path)


def test_a_failure_while_writing_keeps_the_old_manifest(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", ROW)
    before = path.read_bytes()
    broken = Utterance(tmp_path / "b.wav", "x", 1.0, extra={"object": object()})
    with pytest.raises(TypeError):
        write_manifest(path, [Utterance(tmp_path / "a.wav", "x", 1.0), broken])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
