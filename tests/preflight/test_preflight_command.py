from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.preflight.command import preflight_command
from asr_lstm.preflight.corpus import find_manifests, read_splits, sets_of_splits
from asr_lstm.preflight.leakage import check_sentences
from asr_lstm.units import Normaliser


def write_split(folder: Path, name: str, *, texts: list[str]) -> Path:
    path = folder / f"{name}.jsonl"
    lines = []
    for index, text in enumerate(texts):
        audio = folder / f"{name}{index}.wav"
        random = np.random.default_rng(len(name) * 100 + index)
        loud = np.repeat(random.random(20) > 0.4, 1600)
        soundfile.write(audio, loud * random.normal(scale=0.1, size=32_000), 16_000)
        row = {
            "audio_filepath": audio.name,
            "text": text,
            "duration": 2.0,
            "speaker": name,
            "id": f"{name}{index}",
        }
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_split(tmp_path, "train", texts=["abc cab"] * 12)
    write_split(tmp_path, "dev", texts=["cab abc"] * 3)
    return tmp_path


def test_a_sound_corpus_exits_with_nought(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = corpus / "out" / "page.html"
    assert preflight_command(manifest=[corpus], output=page) == 0
    out = capsys.readouterr().out
    assert "nothing found that should be mended" in out
    assert "Looked at 15 rows and the headers of 15 files; listened to 15 of them" in " ".join(out.split())
    assert "Word error rate to expect of 0.01 h of training: 0 % to 15 %" in out
    assert page.with_suffix(".tsv").read_text(encoding="utf-8").count("\n") == 1


def test_a_table_of_the_corpus_is_not_overwritten(corpus: Path) -> None:
    table = corpus / "train.tsv"
    table.write_text("path\ttext\n")
    with pytest.raises(ConfigError, match=r"train\.tsv: stands where the table of all places goes"):
        preflight_command(manifest=[corpus], output=corpus / "train.html")
    assert table.read_text() == "path\ttext\n"
    assert not (corpus / "train.html").exists()
    for _ in range(2):  # one of an earlier preflight may go
        assert preflight_command(manifest=[corpus], output=corpus / "page.html") == 0


def test_serious_findings_exit_with_one_and_stand_in_console_page_and_table(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "train3.wav").unlink()
    page = corpus / "page.html"
    assert preflight_command(manifest=[corpus / "train.jsonl", corpus / "dev.jsonl"], output=page) == 1
    out = capsys.readouterr().out
    assert "serious: 1 row will be refused: audio missing" in out
    assert str(corpus / "train3.wav") in out
    with page.with_suffix(".tsv").open(encoding="utf-8") as file:
        (line,) = csv.DictReader(file, delimiter="\t")
    assert line == {
        "severity": "serious",
        "finding": "1 row will be refused: audio missing",
        "split": "train",
        "id": "train3",
        "path": str(corpus / "train3.wav"),
        "detail": "no such file; check the path",
    }
    html = page.read_text(encoding="utf-8")
    for said in (
        "1 serious finding. Mend the serious ones",
        "train3.wav",
        "Correct <code>audio_filepath</code>",
    ):
        assert said in html


def test_the_page_is_one_well_formed_file_that_loads_nothing(corpus: Path) -> None:
    rows = (corpus / "train.jsonl").read_text(encoding="utf-8")
    hostile = "<script>alert(1)</script> \\u202e \\ud800"
    (corpus / "train.jsonl").write_text(rows.replace("abc cab", hostile, 1), encoding="utf-8")
    page = corpus / "page.html"
    preflight_command(manifest=[corpus], output=page)
    html = page.read_text(encoding="utf-8")
    tree = ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>"))
    assert not list(tree.iter("script"))
    assert not [name for element in tree.iter() for name in ("src", "href") if element.get(name)]
    titles = {element.text for element in tree.iter("figcaption")}
    assert {"Lengths", "Sampling rates", "Without speech"} <= titles
    headings = {element.text for element in tree.iter("h2")}
    assert {"Findings", "What to expect", "Characters"} <= headings


def test_names_that_no_console_can_write_are_shown_by_their_codes(corpus: Path) -> None:
    row = {"audio_filepath": "caf\udce9.wav", "text": "abc <\ud800>", "duration": 2.0, "id": "\udce9"}
    with (corpus / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert preflight_command(manifest=[corpus], output=corpus / "page.html") == 1
    table = (corpus / "page.tsv").read_text(encoding="utf-8")
    assert "\\udce9\t" in table
    assert "caf\\udce9.wav" in table
    assert "<\\ud800>" in table


def test_a_finding_of_many_places_is_cut_on_the_page_and_whole_in_the_table(corpus: Path) -> None:
    write_split(corpus, "train", texts=["", "abc"] * 40)
    page = corpus / "page.html"
    assert preflight_command(manifest=[corpus], output=page) == 1
    assert "the first 20 of 40" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".tsv").read_text(encoding="utf-8").count("refused: no text\ttrain\t") == 40


@pytest.mark.parametrize(
    ("options", "said"),
    [({"output": Path("page.pdf")}, "name it .html"), ({"audio": -1}, "audio: a number")],
)
def test_options_without_sense_are_one_line(options: dict[str, object], said: str, corpus: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        preflight_command(manifest=[corpus], **options)  # type: ignore[arg-type]


def test_a_broken_manifest_is_one_line(corpus: Path) -> None:
    (corpus / "dev.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"dev\.jsonl:1: `audio_filepath` is missing"):
        preflight_command(manifest=[corpus], output=corpus / "page.html")
    assert not (corpus / "page.html").exists()


def test_manifests_of_a_folder_or_those_below_it(tmp_path: Path) -> None:
    below = tmp_path / "corpus" / "manifests"
    below.mkdir(parents=True)
    inner = write_split(below, "train", texts=["a"])
    assert find_manifests([tmp_path]) == [inner]
    outer = write_split(tmp_path, "dev", texts=["a"])
    assert find_manifests([tmp_path, outer, below]) == [outer, inner]


def test_splits_are_named_after_their_files_and_training_comes_first(tmp_path: Path) -> None:
    dev, test, train = (write_split(tmp_path, name, texts=["A!"]) for name in ("dev", "test", "train-clean"))
    splits = read_splits([dev, test, train], normaliser=Normaliser())
    assert [(split.name, split.training) for split in splits] == [
        ("train-clean", True),
        ("dev", False),
        ("test", False),
    ]
    assert splits[0].rows[0].text == "a"
    # Where none is named so, the first is learned from; files of one name are told apart by their folders.
    other = tmp_path / "other"
    other.mkdir()
    again = write_split(other, "dev", texts=["a"])
    assert [(split.name, split.training) for split in read_splits([dev, again], normaliser=Normaliser())] == [
        (f"{tmp_path.name}/dev", True),
        ("other/dev", False),
    ]


def test_folds_are_compared_each_within_itself(tmp_path: Path) -> None:
    texts = {name: [f"{name} says {word} here today" for word in ("one", "two", "three")] for name in "abc"}
    for held_out in "abc":
        folder = tmp_path / "folds" / held_out / "manifests"
        folder.mkdir(parents=True)
        kept = [text for name in "abc" if name != held_out for text in texts[name]]
        write_split(folder, "train", texts=kept)
        write_split(folder, "test", texts=texts[held_out])
    manifests = find_manifests([tmp_path / "folds"])
    splits = read_splits(manifests, normaliser=Normaliser())
    assert {split.name for split in splits} == {
        f"{name}/{kind}" for name in "abc" for kind in ("train", "test")
    }
    sets = sets_of_splits(splits)
    assert [{split.name for split in part} for part in sets] == [{f"{n}/train", f"{n}/test"} for n in "abc"]
    assert check_sentences(splits), "all of them compared as one set would share sentences"
    assert not any(check_sentences(part) for part in sets)


def test_splits_of_one_corpus_may_stand_in_several_folders(tmp_path: Path) -> None:
    paths = []
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        paths.append(write_split(tmp_path / name, name, texts=["the very same sentence stands here"]))
    splits = read_splits(paths, normaliser=Normaliser())
    assert sets_of_splits(splits) == [splits]
    assert check_sentences(sets_of_splits(splits)[0])
