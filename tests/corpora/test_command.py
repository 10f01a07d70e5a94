"""`asr-lstm prepare`."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm.corpora.command import CORPORA, prepare_command
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.functions import find_function
from asr_lstm.manifest import read_manifest


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten recordings, and the working directory beside them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        soundfile.write(folder / f"p{number % 2}_{number}.wav", np.full(4000, 0.1), 8000)
        (folder / f"p{number % 2}_{number}.txt").write_text("a word")
    return folder


def test_prints_where_the_manifests_are(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_command(["folder", "in"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [[split, f"exp/folder/manifests/{split}.jsonl"] for split in ("train", "dev", "test")]
    assert sum(len(read_manifest(path)) for _, path in lines) == 10


def test_options_are_those_of_the_corpus(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["in", "--output", "out", "--test", "0", "--speaker", "([^/_]+)_", "--seed", "3"]
    assert prepare_command(["folder", *arguments]) == 0
    assert capsys.readouterr().out == "train\tout/train.jsonl\ndev\tout/dev.jsonl\n"
    assert {row.speaker for name in ("train", "dev") for row in read_manifest(f"out/{name}.jsonl")} == {
        "p0",
        "p1",
    }


def test_a_corpus_that_can_be_fetched_needs_no_source(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(
        "asr_lstm.corpora.yesno.find_corpus", lambda *_, **options: asked.update(options) or source
    )
    with pytest.raises(DataError):  # there is none of yesno's recordings
        prepare_command(["yesno", "--download", "true", "--data", "there"])
    assert (asked["download"], asked["source"], str(asked["data"])) == (True, "", "there")
    monkeypatch.undo()
    with pytest.raises(DataError, match="--download true"):
        prepare_command(["yesno"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing is not a corpus"),
        (["foldr", "in"], "foldr is not a corpus; say prepare CORPUS SOURCE with one of digits"),
        (["folder"], "source"),
        (["folder", "in", "--shuffle", "1"], "--shuffle"),
        (["folder", "in", "--dev", "many"], "dev"),
        (["folder", "in", "--dev", "2"], "dev, test: shares"),
        (["folder", "in", "more"], "more"),
    ],
)
def test_a_mistake_is_one_line(source: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_command(arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("exp").exists()


def test_a_source_that_is_not_there(source: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        prepare_command(["folder", "absent"])


def test_help_names_the_corpora_and_their_options(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_command(["--help"]) == 0
    printed = capsys.readouterr().out
    assert [name for name in CORPORA if name not in printed] == []
    with pytest.raises(SystemExit) as caught:
        prepare_command(["folder", "--help"])
    assert caught.value.code == 0
    assert "--max_seconds" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(CORPORA))
def test_each_corpus_takes_an_output_and_a_source_unless_it_is_made(name: str) -> None:
    first, second, *_ = inspect.signature(find_function(CORPORA[name])).parameters
    assert first == "output"
    assert second == ("lang" if name == "synthetic" else "source")


def test_text_files_become_speech(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader")
    Path("a.txt").write_text("Goedemorgen allemaal.\n", encoding="utf-8")
    Path("b.txt").write_text("Tot morgen dan maar.\n", encoding="utf-8")
    few = ["--hours", "0.002", "--speakers", "2", "--rate", "8000", "--words_a_minute", "[100,120]"]
    made = prepare_command(
        ["synthetic", "--lang", "nl", "--text", "a.txt", "b.txt", *few, "--acoustics", "null"]
    )
    assert made == 0
    assert capsys.readouterr().out == "train\texp/synthetic/manifests/train.jsonl\n"
    rows = read_manifest("exp/synthetic/manifests/train.jsonl")
    assert {row.text for row in rows} == {"Goedemorgen allemaal.", "Tot morgen dan maar."}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "nl"], "required: text"),
        (["--text", "a.txt"], "lang"),
        (["--lang", "nl", "--text", "a.txt", "--hours", "-1"], "hours"),
    ],
)
def test_a_mistake_about_speech_is_one_line(source: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        prepare_command(["synthetic", *arguments])
    assert "\n" not in str(caught.value)
