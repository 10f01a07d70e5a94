from __future__ import annotations

import logging
from pathlib import Path, PurePath

import pytest

from asr_lstm.corpora.folder import prepare_folder
from asr_lstm.corpora.speakers import below_common, name_speakers
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance

ROOT = Path("/")  # a folder that is there; the files need not be


def _utterances(*names: str) -> list[Utterance]:
    return [Utterance(ROOT / name, "x", 1.0, id=name) for name in names]


def _named(speaker: str, *names: str) -> list[str]:
    return [row.speaker for row in name_speakers(_utterances(*names), speaker=speaker, source=ROOT)]


def test_a_pattern_sees_the_path_below_the_source_and_a_group_that_is_not_met_is_nobody() -> None:
    names = ("anna/2024_01.wav", "bob/2023_01.wav", "noise.wav")
    assert _named(r"^([a-z]+)/", *names) == ["anna", "bob", ""]
    assert _named(r"^(data)?", "anna/1.wav", "data/1.wav") == ["", "data"]


def test_sub_folders_are_speakers_unasked_only_where_each_has_some_files() -> None:
    assert _named("", "a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav") == ["a", "a", "b", "b"]
    assert _named("", "a/1.wav", "a/2.wav", "b/1.wav") == ["", "", ""]
    assert _named("folder", "a/1.wav", "a/2.wav", "b/1.wav") == ["a", "a", "b"]
    assert _named("folder", "train/a/1.wav", "test/b/1.wav") == ["a", "b"]


def test_utterances_without_a_speaker_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _named(r"^([a-z]+)/", "anna/1.wav", "bob/1.wav", "1.wav", "2.wav")
    assert "speakers: 2, by the pattern ^([a-z]+)/" in caplog.text
    assert "not known of 2 utterances" in caplog.text


def test_paths_below_what_they_share() -> None:
    assert below_common([]) == []
    assert below_common([Path("/a/b/c.wav"), Path("/a/d.wav")]) == [PurePath("b/c.wav"), PurePath("d.wav")]
    assert below_common([Path("/a/x/../b/c.wav")]) == [PurePath("c.wav")]


@pytest.mark.parametrize(
    ("pattern", "said"), [("[a-z]+(", "not a regular expression"), ("spk(?:1)", "has no group")]
)
def test_a_wrong_pattern_is_refused_before_any_file_is_read(tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "in").mkdir()  # in which there is nothing to read
    with pytest.raises(ConfigError, match=said):
        prepare_folder(tmp_path / "m", source=tmp_path / "in", speaker=pattern)
