"""`asr-lstm compare A B`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr_lstm.compare import Comparison, compare_command, compare_folders, read_recognised
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.manifest import Utterance, write_manifest

SAID = ["ONE two, three", "four five", "six", "seven eight nine ten"]
SPEAKERS = ["ann", "bob", "ann", "bob"]
IDS = ["u1", "u2", "u3", "u4"]
RECIPE = "name: x\ncorpus: {prepare: a.b}\n"


def experiment(
    folder: Path, texts: list[str], *, order: list[int] | None = None, said: list[str] = SAID
) -> Path:
    """What a recipe leaves on disk, for a split of four utterances."""
    order = order or [0, 1, 2, 3]
    rows = [Utterance(folder / f"{IDS[i]}.wav", said[i], 1.0, speaker=SPEAKERS[i], id=IDS[i]) for i in order]
    write_manifest(folder / "manifests" / "dev.jsonl", rows)
    (folder / "decoded").mkdir()
    lines = [json.dumps({"text": texts[i]}) + "\n" for i in order]
    (folder / "decoded" / "dev.greedy.jsonl").write_text("".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Errors in words: 1, 1, 0, 2."""
    return experiment(tmp_path / "a", ["one two tree", "four", "six", "seven ate none ten"])


def compared(first: Path, second: Path, **options: object) -> Comparison:
    return compare_folders(first, second, **options)  # type: ignore[arg-type]


def test_rates_wins_and_examples(first: Path, tmp_path: Path) -> None:
    second = experiment(
        tmp_path / "b", ["one two three", "four five", "sticks", "seven eight nine"], order=[3, 1, 0, 2]
    )
    found = compared(first, second)
    assert found.rates["wer"] == (0.4, 0.2)
    assert found.tests["wer"].difference == pytest.approx(-0.2)
    assert found.wins == (1, 0, 3)
    assert found.speakers == {"bob": (3 / 6, 1 / 6), "ann": (1 / 4, 1 / 4)}
    assert found.speaker_wins == (0, 1, 1)
    assert [(pair.id, pair.gap) for pair in found.gains] == [("u1", -1), ("u2", -1), ("u4", -1)]
    (loss,) = found.losses
    assert (loss.reference, loss.first, loss.second) == ("six", "six", "sticks")
    back = compared(second, first)
    assert back.tests["wer"].difference == pytest.approx(0.2)
    assert back.wins == (3, 0, 1)


def test_a_model_against_itself(first: Path) -> None:
    found = compared(first, first)
    assert found.wins == (0, 4, 0)
    assert found.tests["cer"].p == 1.0
    assert found.gains == found.losses == []


def test_speakers_as_units(first: Path, tmp_path: Path) -> None:
    second = experiment(tmp_path / "b", [text.lower() for text in SAID])
    assert compared(first, second, by="speaker").tests["wer"].clusters == 2
    assert compared(first, second).tests["wer"].clusters == 4


def test_files_of_two_decoders_of_one_experiment(first: Path) -> None:
    beam = first / "decoded" / "dev.beam+ngram.jsonl"
    beam.write_text("".join(json.dumps({"text": text}) + "\n" for text in SAID))
    found = compared(first / "decoded" / "dev.greedy.jsonl", beam)
    assert found.rates["wer"] == (0.4, 0.0)
    assert read_recognised(beam, split="none").hypotheses[0] == "one two three"


def test_a_file_says_which_split_it_is(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("manifests", "decoded"):
        for path in list((first / folder).iterdir()):
            path.rename(path.with_name(path.name.replace("dev", "test")))
    file = first / "decoded" / "test.greedy.jsonl"
    assert compare_command(folders=[file, file]) == 0
    assert "test: 4 utterances" in capsys.readouterr().out


def test_the_command(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = experiment(tmp_path / "b [bold]", ["one two three", "four five", "sticks", "seven eight nine"])
    output = tmp_path / "out" / "comparison.json"
    assert compare_command(folders=[first, second], output=output) == 0
    printed = capsys.readouterr().out
    for piece in (
        "b [bold]",
        "dev: 4 utterances",
        "40.00",
        "20.00",
        "-20.00",
        "B better in 3",
        "B loses most: u3",
    ):
        assert piece in printed
    written = json.loads(output.read_text())
    assert written["tests"]["wer"]["difference"] == pytest.approx(-0.2)
    assert written["losses"][0]["id"] == "u3"


def test_differences_that_are_all_alike_are_json(first: Path, tmp_path: Path) -> None:
    """Their z has no end, and JSON no infinity."""
    second = experiment(tmp_path / "b", ["one two tree x", "x y", "six x", "seven ate none ten x"])
    output = tmp_path / "comparison.json"
    compare_command(folders=[first, second], output=output)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    written = json.loads(output.read_text(), parse_constant=refuse)
    assert written["tests"]["wer"]["z"] is None


def test_a_file_may_be_named_from_beside_it(
    first: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(first / "decoded")
    file = Path("dev.greedy.jsonl")
    assert compare_command(folders=[file, file]) == 0
    assert "dev: 4 utterances" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="say compare A B"):
        compare_command(folders=[first])
    with pytest.raises(ConfigError, match="seed"):
        compare_command(folders=[first, first], seed=-1)
    with pytest.raises(DataError, match=r"test\.greedy\.jsonl: not there; there is dev\.greedy\.jsonl"):
        compared(first, first, split="test")
    with pytest.raises(DataError, match="there is nothing"):
        compared(first, tmp_path / "absent")
    other_words = experiment(tmp_path / "b", SAID, said=["one two four", *SAID[1:]])
    with pytest.raises(DataError, match="u1 has another transcript"):
        compared(first, other_words)
    fewer = experiment(tmp_path / "c", SAID, order=[0, 1])
    with pytest.raises(DataError, match="2 utterances are only there or only in"):
        compared(first, fewer)
    (first / "decoded" / "dev.greedy.jsonl").write_text("{")
    with pytest.raises(DataError, match="not a file of recognitions"):
        compared(first, fewer)
    (first / "decoded" / "dev.greedy.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(DataError, match="1 recognitions of 4 utterances"):
        compared(first, fewer)


def test_unknown_speakers(first: Path) -> None:
    rows = [
        Utterance(first / f"{name}.wav", text, 1.0, id=name) for name, text in zip(IDS, SAID, strict=True)
    ]
    write_manifest(first / "manifests" / "dev.jsonl", rows)
    assert compared(first, first).speakers == {}
    with pytest.raises(DataError, match="compare by utterance"):
        compared(first, first, by="speaker")
