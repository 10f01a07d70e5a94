"""Folders as people have them: layouts, speakers, faults, scripts."""

from __future__ import annotations

import csv
import errno
import functools
import io
import json
import logging
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_lstm.config import load_recipe
from asr_lstm.corpora import Prepared, folder, kaldi, pairs, rows, tables, validate
from asr_lstm.corpora.folder import prepare_folder
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance, read_manifest
from asr_lstm.units import CharacterUnits, Normaliser

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "folder"
# What a line of dropped.tsv may begin its reason with.
_REASONS = {
    *("NO_TEXT", "MISSING", "UNREADABLE", "UNTRUE_DURATION", "DUPLICATE", "NOT_UTF8", "TOO_LONG"),
    *("UNKNOWN_SPLIT", "BROKEN_ROW", "UNREADABLE_TEXT", "UNREADABLE_FOLDER"),
}


@functools.lru_cache
def _noise(seconds: float, suffix: str) -> bytes:
    """A file of noise, mono at 8 kHz."""
    samples = np.random.default_rng(0).normal(scale=0.1, size=round(8000 * seconds))
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=suffix)
    return file.getvalue()


def _record(path: Path, text: str | None = "a word", *, seconds: float = 0.5) -> None:
    """A recording with a .txt beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_noise(seconds, path.suffix[1:].upper()))
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight speakers of five recordings each, one a sub-folder."""
    folder = tmp_path / "my recordings"
    for speaker in range(8):
        for number in range(5):
            _record(folder / f"spk{speaker}" / f"{number}.wav", f"this is {number}")
    return folder


def _read(prepared: Prepared) -> dict[str, list[Utterance]]:
    return {split: read_manifest(path) for split, path in prepared.manifests.items()}


def _dropped(output: Path) -> dict[str, str]:
    """Reason by file name."""
    with (output / "dropped.tsv").open(encoding="utf-8", newline="") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file, delimiter="\t")}


def _speakers(prepared: Prepared) -> list[set[str]]:
    return [{row.speaker for row in rows} for rows in _read(prepared).values()]


def test_a_folder_becomes_manifests_split_by_speaker(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "m"
    prepared = prepare_folder(output, source=source)
    splits = _read(prepared)
    assert list(splits) == ["train", "dev", "test"]
    assert {path.name for path in output.iterdir()} == {"train.jsonl", "dev.jsonl", "test.jsonl"}
    rows = [row for part in splits.values() for row in part]
    assert sorted(row.id for row in rows) == [f"spk{s}/{n}" for s in range(8) for n in range(5)]
    for row in rows:
        assert row.path.samefile(source / f"{row.id}.wav")
        assert (row.text, row.duration, row.speaker) == (f"this is {row.id[-1]}", 0.5, row.id[:4])
    assert sum(map(len, _speakers(prepared))) == 8
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    prepare_folder(output, source=source)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    ("speaker", "count"),
    [("", 8), ("folder", 8), ("none", 0), (r"/(\d)", 5), (r"spk(?P<who>\d)/", 8), (r"spk([12])/", 2)],
)
def test_how_speakers_are_told(source: Path, tmp_path: Path, speaker: str, count: int) -> None:
    prepared = prepare_folder(tmp_path / "m", source=source, speaker=speaker)
    assert len(set().union(*_speakers(prepared)) - {""}) == count


def test_sub_folders_of_one_file_each_are_no_speakers(tmp_path: Path) -> None:
    for number in range(12):
        _record(tmp_path / "in" / f"clip{number}" / "audio.wav")
    prepared = prepare_folder(tmp_path / "m", source=tmp_path / "in")
    assert set().union(*_speakers(prepared)) == {""}
    assert "no speakers are known" in prepared.notes[0]
    rows = [row.id for part in _read(prepared).values() for row in part]
    assert sorted(rows) == sorted(f"clip{number}/audio" for number in range(12))


@pytest.mark.parametrize("speaker", ["mood", "([a-z]+)9", "[a-z]+(", "spk(?:1)"])
def test_a_speaker_option_that_fits_nothing(source: Path, tmp_path: Path, speaker: str) -> None:
    with pytest.raises(ConfigError, match=r"^speaker: ") as caught:
        prepare_folder(tmp_path / "m", source=source, speaker=speaker)
    assert "\n" not in str(caught.value)


def test_a_table_and_its_columns(source: Path, tmp_path: Path) -> None:
    table = source / "all.csv"
    lines = [f"spk{s}/{n}.wav,w{n},group{s // 2},u{s}{n}" for s in range(8) for n in range(5)]
    table.write_text("\n".join(["path,text,team,id", *lines]))
    for given in (table, source):  # the table by name, or as the one in its folder
        prepared = prepare_folder(tmp_path / "m", source=given, speaker="team")
        assert set().union(*_speakers(prepared)) == {f"group{number}" for number in range(4)}
        assert {row.id for row in _read(prepared)["dev"]} <= {f"u{s}{n}" for s in range(8) for n in range(5)}


def test_paths_that_are_written_oddly(source: Path, tmp_path: Path) -> None:
    (source / "lists").mkdir()
    names = [
        f"{prefix}spk{n}/{n % 5}.wav"
        for n, prefix in enumerate((f"/{source}/", "../", f"{source}/./spk0/../", "..//"))
    ]
    (source / "lists" / "t.csv").write_text("\n".join(["path,text", *(f"{name},x" for name in names)]))
    splits = _read(prepare_folder(tmp_path / "m", source=source / "lists"))
    assert sorted(row.id for part in splits.values() for row in part) == [
        "spk0/0",
        "spk1/1",
        "spk2/2",
        "spk3/3",
    ]


def test_ids_that_occur_twice_are_not_taken(source: Path, tmp_path: Path) -> None:
    lines = [f"spk{s}/{n}.wav,w{n},{n}" for s in range(8) for n in range(5)]
    (source / "all.csv").write_text("\n".join(["path,text,id", *lines]))
    rows = [row for part in _read(prepare_folder(tmp_path / "m", source=source)).values() for row in part]
    assert len({row.id for row in rows}) == 40
    assert not (tmp_path / "m" / "dropped.tsv").exists()


def test_parts_of_recordings_stay_together(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        _record(tmp_path / "in" / f"{number}.wav", None, seconds=1.0)
        rows += [f"{number},part {part},{part * 0.25},0.25" for part in range(4)]
    table = tmp_path / "in" / "parts.csv"
    table.write_text("\n".join(["file,text,offset,duration", *rows]))
    splits = _read(prepare_folder(tmp_path / "m", source=table))
    assert [len({row.path for row in part}) for part in splits.values()] == [
        20,
        5,
        5,
    ]  # 20 utterances at least
    assert {(row.offset, row.duration) for row in splits["test"]} == {(part / 4, 0.25) for part in range(4)}
    assert all(len(part) == 4 * len({row.path for row in part}) for part in splits.values())


@pytest.mark.parametrize("layout", ["column", "tables", "folders", "kaldi"])
def test_splits_that_are_given_are_kept(source: Path, tmp_path: Path, layout: str) -> None:
    of = {f"spk{number}": split for number, split in enumerate(["train"] * 5 + ["valid"] + ["test"] * 2)}
    wavs = sorted(source.rglob("*.wav"))
    if layout == "column":
        lines = [f"{path},x,{of[path.parent.name]}" for path in wavs]
        (source / "list.csv").write_text("\n".join(["path,text,subset", *lines]))
    elif layout == "tables":
        for split in set(of.values()):
            lines = [f"{path}\tx" for path in wavs if of[path.parent.name] == split]
            (source / f"{split}.tsv").write_text("\n".join(["path\ttext", *lines]))
        (source / "validated.tsv").write_text(f"path\ttext\n{wavs[0]}\tx\n")
    elif layout == "folders":
        for speaker, split in of.items():
            (source / split).mkdir(exist_ok=True)
            (source / speaker).rename(source / split / speaker)
    else:
        for split in set(of.values()):
            folder = tmp_path / "kaldi" / split
            folder.mkdir(parents=True)
            mine = [path for path in wavs if of[path.parent.name] == split]
            for name, words in (("wav.scp", "{0}"), ("text", "A WORD"), ("utt2spk", "{0.parent.name}")):
                lines = [f"{path.parent.name}-{path.stem} {words.format(path)}\n" for path in mine]
                (folder / name).write_text("".join(lines))
        source = tmp_path / "kaldi"
    splits = _read(prepare_folder(tmp_path / "m", source=source))
    counts = {split: len(rows) for split, rows in splits.items()}
    assert counts == {"train": 25, "dev": 5, "test": 10}
    if layout in ("folders", "kaldi"):
        assert {row.speaker for row in splits["test"]} == {"spk6", "spk7"}


def test_names_of_splits_mean_nothing_within_a_split(source: Path, tmp_path: Path) -> None:
    for split, speaker in (("train", 0), ("train/test", 1), ("train/train", 2), ("dev", 3), ("test", 4)):
        (source / split).mkdir(exist_ok=True)
        (source / f"spk{speaker}").rename(source / split / f"spk{speaker}")
    _record(source / "train" / "loose.wav")
    splits = _read(prepare_folder(tmp_path / "m", source=source))
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 16, "dev": 5, "test": 5}


@pytest.mark.parametrize("target", [".", "..", "../my recordings"])
def test_links_named_as_splits_that_lead_back_are_none(source: Path, tmp_path: Path, target: str) -> None:
    for name in ("train", "dev", "test"):
        (source / name).symlink_to(target)
    splits = _read(prepare_folder(tmp_path / "m", source=source))
    ids = [row.id for rows in splits.values() for row in rows]
    assert sorted(ids) == [f"spk{s}/{n}" for s in range(8) for n in range(5)]


def test_a_link_back_from_within_a_split_brings_no_other_split_into_it(source: Path, tmp_path: Path) -> None:
    for split, speaker in (("train", 0), ("dev", 1), ("valid", 2), ("test", 3)):
        (source / split).mkdir()
        (source / f"spk{speaker}").rename(source / split / f"spk{speaker}")
        (source / split / "dev").symlink_to("..")
        (source / split / "train").symlink_to(source.parent)
    splits = _read(prepare_folder(tmp_path / "m", source=source))
    speakers = {split: {row.speaker for row in rows} for split, rows in splits.items()}
    assert speakers == {"train": {"spk0"}, "dev": {"spk1", "spk2"}, "test": {"spk3"}}


def test_a_split_of_an_earlier_run_does_not_stay(source: Path, tmp_path: Path) -> None:
    prepare_folder(tmp_path / "m", source=source)
    for name in ("notes.jsonl", "validated.jsonl", "test.txt"):
        (tmp_path / "m" / name).touch()
    prepare_folder(tmp_path / "m", source=source, test=0.0)
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {"train.jsonl", "dev.jsonl", "notes.jsonl", "validated.jsonl", "test.txt"}


def test_several_tables_are_not_guessed_among(source: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (source / name).write_text("path,text\nspk0/0.wav,x\n")
    with pytest.raises(DataError, match=r"several tables of recordings \(a\.csv, b\.csv\); name the one"):
        prepare_folder(tmp_path / "m", source=source)


def test_a_table_of_something_else_does_not_hide_the_pairs(source: Path, tmp_path: Path) -> None:
    (source / "speakers.csv").write_text("name,age\nspk0,7\n")
    assert len(_read(prepare_folder(tmp_path / "m", source=source))["train"]) >= 20


def test_a_table_without_a_column_is_said_where_there_is_nothing_else(source: Path, tmp_path: Path) -> None:
    for text in source.rglob("*.txt"):
        text.unlink()
    (source / "list.csv").write_text("path,words\nspk0/0.wav,x\n")
    with pytest.raises(DataError, match="no column for the transcript"):
        prepare_folder(tmp_path / "m", source=source)


def test_every_container_rate_and_channel(tmp_path: Path) -> None:
    kinds = [
        ("wav", 8000, 1),
        ("flac", 44100, 2),
        ("ogg", 16000, 1),
        ("mp3", 22050, 2),
        ("aiff", 48000, 6),
        ("opus", 48000, 1),
    ]
    for suffix, rate, channels in kinds:
        path = tmp_path / "in" / f"{suffix}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).normal(scale=0.1, size=(rate, channels))
        with path.open("wb") as file:
            soundfile.write(
                file,
                noise,
                rate,
                format="OGG" if suffix == "opus" else suffix.upper(),
                subtype="OPUS" if suffix == "opus" else None,
            )
        path.with_suffix(".txt").write_text("x")
    splits = _read(prepare_folder(tmp_path / "m", source=tmp_path / "in"))
    rows = {row.id: row.duration for part in splits.values() for row in part}
    assert rows == {suffix: pytest.approx(1.0, abs=0.05) for suffix, _, _ in kinds}


def test_all_kinds_of_faults_at_once(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _record(source / "no text.wav", None)
    (source / "no audio.txt").write_text("said by nobody")
    _record(source / "empty.wav", " \n")
    _record(source / "latin.wav")
    (source / "latin.txt").write_bytes("één".encode("latin-1"))
    _record(source / "twice.wav")
    _record(source / "twice.flac")
    _record(source / "cut.wav")
    (source / "cut.wav").write_bytes((source / "cut.wav").read_bytes()[:2000])
    (source / "no audio at all.mp3").write_text("text" * 100)
    (source / "no audio at all.txt").write_text("x")
    (source / "dangling.wav").symlink_to("nowhere.wav")
    (source / "dangling.txt").write_text("x")
    (source / "loop").symlink_to(source)
    (source / "spk1" / "up").symlink_to("..")
    _record(source / "three hours.wav")
    _lengthen(source / "three hours.wav", seconds=3 * 3600)
    _record(source / "a 'quoted' \"name\".wav")
    _record(source / "new\nline.wav")
    _record(source / os.fsdecode(b"caf\xe9.wav"), None)
    output = tmp_path / "m"
    with caplog.at_level(logging.WARNING):
        splits = _read(prepare_folder(output, source=source))
    kept = {row.id for part in splits.values() for row in part}
    assert kept - {f"spk{s}/{n}" for s in range(8) for n in range(5)} == {
        "twice",
        "a 'quoted' \"name\"",
        "new_line",
    }
    dropped = _dropped(output)
    reasons = {name: reason.partition(":")[0] for name, reason in dropped.items()}
    assert reasons == {
        "no text.wav": "no text",
        "no audio.txt": "audio missing",
        "empty.wav": "no text",
        "latin.wav": "transcript unreadable",
        "twice.flac": "duplicate id",
        "cut.wav": "audio unreadable",
        "no audio at all.mp3": "audio unreadable",
        "dangling.wav": "audio missing",
        "three hours.wav": "too long",
        "caf\\udce9.wav": "not UTF-8",
    }
    assert "10800.0 s, more than max_seconds 40; cut it" in dropped["three hours.wav"]
    assert "dropped 10 of 53 utterances" in caplog.text
    (new_line,) = (row for part in splits.values() for row in part if row.id == "new_line")
    assert new_line.path.samefile(source / "new\nline.wav")


def _lengthen(path: Path, *, seconds: int, rate: int = 8000) -> None:
    """Make a mono 16-bit WAV as long as that, in a sparse file."""
    data = path.read_bytes()
    place = data.index(b"data")
    size = 2 * rate * seconds
    header = (
        data[:4] + (place + size).to_bytes(4, "little") + data[8 : place + 4] + size.to_bytes(4, "little")
    )
    path.write_bytes(header + data[place + 8 :])
    os.truncate(path, place + 8 + size)


def test_a_recording_longer_than_a_sentence_may_be_wanted(tmp_path: Path) -> None:
    for number in range(4):
        _record(tmp_path / "in" / f"{number}.wav", seconds=2.0 + number)
    rows = [
        row for part in _read(prepare_folder(tmp_path / "m", source=tmp_path / "in")).values() for row in part
    ]
    assert len(rows) == 4
    splits = _read(prepare_folder(tmp_path / "m", source=tmp_path / "in", max_seconds=4.0))
    assert [len(part) for part in splits.values()] == [1, 1, 1]
    assert list(_dropped(tmp_path / "m")) == ["3.wav"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.mkdir(), "no recordings in it; give a folder"),
        (lambda folder: None, "no such folder or file"),
        (lambda folder: folder.write_text("x"), "give a folder, or a table (.csv, .tsv, .jsonl)"),
        (lambda folder: _record(folder / "a.wav", None), "none of its 1 utterances can be used"),
        (lambda folder: [_record(folder / f"{n}.wav") for n in range(2)], "2 recordings cannot be divided"),
        (lambda folder: [folder.mkdir(), (folder / "wav.scp").write_text("a sox x |\n")], "is a command"),
        (lambda folder: [folder.mkdir(), (folder / "wav.scp").write_text("\n")], "lists nothing"),
        (lambda folder: [folder.mkdir(), (folder / "t.csv").write_text("path,text\ngone,x")], "no file 'gone'"),
    ],
    ids=["empty", "absent", "a file", "no text", "two recordings", "piped", "empty kaldi", "nothing there"],
)  # fmt: skip
def test_what_cannot_be_used_at_all_is_one_line_and_writes_no_manifest(
    tmp_path: Path, make: Any, said: str
) -> None:
    make(tmp_path / "in")
    with pytest.raises(DataError) as caught:
        prepare_folder(tmp_path / "m", source=tmp_path / "in")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("m/*.jsonl"))


def test_no_source_is_said_in_the_words_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="DATA=/path"):
        prepare_folder(tmp_path, source="")


@pytest.mark.parametrize(
    "option", [{"dev": 0}, {"test": 1.0}, {"max_seconds": 0}, {"max_seconds": float("nan")}]
)
def test_impossible_options(source: Path, tmp_path: Path, option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"dev, test|max_seconds"):
        prepare_folder(tmp_path / "m", source=source, **option)  # type: ignore[arg-type]


def test_a_folder_that_is_read_only_is_enough(source: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (source, *source.rglob("*"))}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        prepare_folder(tmp_path / "m", source=source)
        assert {path: path.stat().st_mtime_ns for path in (source, *source.rglob("*"))} == before
    finally:
        for path in before:
            path.chmod(0o755)


def test_a_folder_without_permission_is_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:  # as for all that lies in it
        if isinstance(path, str | Path) and Path(path).parent == source:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    def shut(path: Any = ".") -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, shut)
        with pytest.raises(DataError) as caught:
            prepare_folder(tmp_path / "m", source=source)
    assert str(caught.value) == f"{source}: cannot read the folder (Permission denied); change its mode"


def test_a_table_that_json_can_write_and_a_manifest_cannot(source: Path, tmp_path: Path) -> None:
    rows = [{"path": f"spk{n}/0.wav", "text": "x", "speaker": f"s{n}", "mood": "glad"} for n in range(8)]
    rows[1]["speaker"], rows[2]["mood"], rows[3]["lang"] = "\ud800", "\udfff", "\ud900"
    (source / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = _read(prepare_folder(tmp_path / "m", source=source))
    assert sorted(row.speaker for part in splits.values() for row in part) == ["s0", "s4", "s5", "s6", "s7"]
    lines = (tmp_path / "m" / "dropped.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == ["spk1/0", "spk2/0", "spk3/0"]
    assert all("not UTF-8: a manifest cannot hold its name, its text" in line for line in lines)


def test_an_output_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _record(source / "no text.wav", None)
    with pytest.raises(DataError, match="cannot write here"):
        prepare_folder(tmp_path / "file" / "m", source=source)


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_disk_that_fills_up_leaves_no_manifest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    real, written = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full") as caught:
        prepare_folder(tmp_path / "m", source=source)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "m").iterdir()) == []


def test_manifests_do_not_replace_the_users_tables(source: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"path": str(path), "text": "x"}) + "\n" for path in source.rglob("*.wav")]
    (source / "train.jsonl").write_text("".join(rows))
    for output in (source, source / "train"):
        with pytest.raises(ConfigError, match="must not lie among the recordings"):
            prepare_folder(output, source=source / "train.jsonl")
    assert (source / "train.jsonl").read_text() == "".join(rows)


# --- scripts

TEXTS = {
    "dutch": ["Eén café, 's avonds om vijf uur!", "De coördinator zei: “ĳsvrij”.", "Auto's, foto's én zo."],
    "czech": ["Příliš žluťoučký kůň úpěl ďábelské ódy.", "Řeřicha — šťáva?", "Ústí nad Labem."],
    "devanagari": ["नमस्ते, आप कैसे हैं?", "मैं ठीक हूँ। धन्यवाद!", "क़लम और ज़मीन क्‍ष"],
    "hebrew": ["שלום, מה שלומך?", "בְּרֵאשִׁית", "צה\u05f4ל"],
    "arabic": ["\u200fمرحبا بالعالم؟", "كِتَابٌ", "سلام"],
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", list(TEXTS))
def test_units_come_from_the_transcripts_of_any_script(tmp_path: Path, language: str, form: Any) -> None:
    for number, text in enumerate(TEXTS[language]):
        _record(tmp_path / "in" / f"{language} {number}.wav", unicodedata.normalize(form, text))
    splits = _read(prepare_folder(tmp_path / "m", source=tmp_path / "in"))
    rows = {row.id: row.text for part in splits.values() for row in part}
    assert rows == {
        f"{language} {n}": unicodedata.normalize(form, text) for n, text in enumerate(TEXTS[language])
    }
    normaliser = Normaliser()
    units = CharacterUnits.from_texts(rows.values(), normaliser)
    units.save(tmp_path / "units.txt")
    units = CharacterUnits.load(tmp_path / "units.txt", normaliser)
    for text, plain in zip(rows.values(), TEXTS[language], strict=False):
        spoken = normaliser(text)
        assert units.decode(units.encode(text)) == spoken
        assert unicodedata.is_normalized("NFC", spoken)
        assert not set(",.!?—“”:؟।\u200f") & set(spoken)
        assert normaliser(spoken) == spoken
        letters = {
            c for c in unicodedata.normalize("NFC", plain.lower()) if unicodedata.category(c)[0] in "LM"
        }
        assert letters <= set("".join(map(normaliser, rows.values())))  # no letter and no mark is lost


def test_the_same_text_composed_and_decomposed_gives_the_same_units() -> None:
    for texts in TEXTS.values():
        composed, decomposed = (
            CharacterUnits.from_texts([unicodedata.normalize(form, text) for text in texts])  # type: ignore[arg-type]
            for form in ("NFC", "NFD")
        )
        assert composed == decomposed


# --- the recipe and what is written about it


def test_the_page_on_own_recordings_names_every_reason_and_the_usual_columns() -> None:
    page = (RECIPE.parents[1] / "docs" / "own_recordings.md").read_text(encoding="utf-8")
    reasons = {
        value
        for module in (folder, kaldi, pairs, rows, tables, validate)
        for name, value in vars(module).items()
        if name in _REASONS
    }
    assert len(reasons) == len(_REASONS)
    assert [reason for reason in reasons if f"| `{reason}` |" not in page] == []
    for names in (tables._PATH, tables._TEXT, tables._SPEAKER, tables._OFFSET, tables._DURATION, tables._END):
        assert f"`{names[0]}`" in page
    assert all(f"`{name}`" in page for name in filter(None, tables._AUDIO_FOLDERS))
    assert all(name in page for name in (*tables.TABLE_SUFFIXES, kaldi.RECORDINGS, folder.DROPPED_NAME))


def test_the_recipe_passes_its_environment_on() -> None:
    recipe = load_recipe(RECIPE, environment={"DATA": "/data/it's here # 1", "SPEAKER": r"([^/_]+)_[^/]*$"})
    assert recipe.corpus.options["source"] == "/data/it's here # 1"
    assert recipe.corpus.options["speaker"] == r"([^/_]+)_[^/]*$"
    assert load_recipe(RECIPE, environment={}).corpus.options["source"] == ""


def test_the_options_of_the_recipe_are_those_of_the_function(source: Path, tmp_path: Path) -> None:
    options = load_recipe(RECIPE, environment={"DATA": str(source)}).corpus.options
    assert len(prepare_folder(tmp_path / "m", **options).manifests) == 3
