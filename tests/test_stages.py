"""Stages are done once, and again when something they depend on has changed."""

from __future__ import annotations

from pathlib import Path

from asr_lstm.stages import Stages, content_digest, tree_digest


def test_a_stage_is_done_until_its_key_or_output_changes(tmp_path: Path) -> None:
    output = tmp_path / "made.txt"
    output.write_text("x")
    stages = Stages(tmp_path / "exp" / "stages.json")
    assert stages.done("train", {"epochs": 3}) is None
    stages.finish("train", {"epochs": 3}, {"wer": 0.5}, outputs=[output])

    again = Stages(tmp_path / "exp" / "stages.json")
    assert again.done("train", {"epochs": 3}) == {"wer": 0.5}
    assert again.done("train", {"epochs": 4}) is None
    assert again.done("decode", {"epochs": 3}) is None
    output.unlink()
    assert again.done("train", {"epochs": 3}) is None


def test_a_damaged_record_means_that_nothing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    path.write_text('{"train": {"dig')
    assert Stages(path).done("train", {}) is None


def test_digests_see_contents_names_and_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "corpus" / "deep"
    folder.mkdir(parents=True)
    file = folder / "a.wav"
    file.write_text("one")
    before = (content_digest(file), tree_digest([str(tmp_path / "corpus"), "no folder", 3]))
    assert tree_digest([str(tmp_path / "corpus")]) == before[1]
    file.write_text("three")
    assert content_digest(file) != before[0]
    changed = tree_digest([str(tmp_path / "corpus")])
    assert changed != before[1]
    (folder / "b.wav").write_text("")
    assert tree_digest([str(tmp_path / "corpus")]) != changed


def test_a_digest_sees_a_file_that_an_option_names(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,text\n")
    before = tree_digest([str(table)])
    assert tree_digest([table]) == before != tree_digest([])
    listed = tree_digest([["a word", str(table)]])
    table.write_text("path,text\na.wav,a\n")
    assert tree_digest([str(table)]) != before
    assert tree_digest([["a word", str(table)]]) != listed
