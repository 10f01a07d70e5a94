from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from recordings import TEXTS, needs

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.commands import interpolate_command, ngram_train_command, perplexity_command
from asr_lstm.lm.load import load_ngram


def call(command: Callable[..., int], *arguments: Any) -> int:
    """Call a command as the command line does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(command)
    return command(**parser.parse_args([str(argument) for argument in arguments]).as_dict())


def figures(output: str) -> dict[str, str]:
    """The rows of a printed table."""
    cells = [[cell.strip() for cell in line.split("│")] for line in output.splitlines() if "│" in line]
    return {row[1]: row[2] for row in cells}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("The cat sat.\nThe dog sat, too!\n\nA cat ran\n")
    return tmp_path / "text.txt"


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz", "model.ngram"])
def test_train_and_measure(tmp_path: Path, text: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / name
    assert call(ngram_train_command, "--order", 2, "--text", text, "--output", output) == 0
    assert capsys.readouterr().out.startswith(f"{output}: 10 1-grams, ")
    assert load_ngram(output).words[3:] == ["the", "cat", "sat", "dog", "too", "a", "ran"]
    (tmp_path / "dev.txt").write_text("The mouse sat\n")
    assert call(perplexity_command, "--lm", output, "--text", tmp_path / "dev.txt") == 0
    table = figures(capsys.readouterr().out)
    assert (table["sentences"], table["words"], table["unknown words"]) == ("1", "3", "1 (33.33%)")
    assert float(table["perplexity"]) > float(table["perplexity, unknown left out"]) > 1


def test_options_reach_the_training(tmp_path: Path, text: Path) -> None:
    output = tmp_path / "model.arpa"
    (tmp_path / "words.txt").write_text("the cat\nsat")
    call(ngram_train_command, "--text", text, "--output", output, "--vocabulary", tmp_path / "words.txt")
    assert load_ngram(output).words[3:] == ["the", "cat", "sat"]
    (tmp_path / "words.txt").write_text("The, CAT\nsat")  # normalised as the text is
    call(ngram_train_command, "--text", text, "--output", output, "--vocabulary", tmp_path / "words.txt")
    assert load_ngram(output).words[3:] == ["the", "cat", "sat"]
    call(ngram_train_command, "--text", text, "--output", output, "--vocabulary", 2, "--prune", "[0, 1]")
    assert load_ngram(output).words[3:] == ["the", "cat"]
    assert load_ngram(output).counts == (5, 1, 0)
    call(ngram_train_command, "--text", text, "--output", output, "--casing=upper", "--punctuation=keep")
    assert "TOO!" in load_ngram(output)
    call(
        ngram_train_command,
        "--text",
        f"[{text}, {text}]",
        "--output",
        output,
        "--sentences=prose",
        "--order=1",
    )
    assert load_ngram(output).counts == (10,)
    (tmp_path / "characters.txt").write_text("<space>\nt\nh\ne\n")
    characters = ("--tokens", "characters", "--vocabulary", tmp_path / "characters.txt")
    call(ngram_train_command, "--text", text, "--output", output, *characters)
    assert sorted(load_ngram(output).words[3:]) == ["<space>", "e", "h", "t"]
    call(ngram_train_command, "--text", text, "--output", output, "--tokens", "characters", "--order", 6)
    assert load_ngram(output).ngram(["t", "h", "e", "<space>", "c", "a"]) is not None


def test_mixing(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.txt").write_text("a mouse ran\nthe mouse sat\n" * 3)
    (tmp_path / "dev.txt").write_text("the mouse ran\na dog sat\nthe cat ran\n")
    for name in ("text", "other"):
        call(ngram_train_command, "--text", tmp_path / f"{name}.txt", "--output", tmp_path / f"{name}.arpa")
    models = f"[{tmp_path / 'text.arpa'}, {tmp_path / 'other.arpa'}]"
    mixed = tmp_path / "mixed.arpa"
    capsys.readouterr()
    assert (
        call(interpolate_command, "--models", models, "--text", tmp_path / "dev.txt", "--output", mixed) == 0
    )
    output = capsys.readouterr().out
    assert 0 < float(output.split()[1]) < 1
    assert figures(output)["unknown words"].startswith("0 ")
    assert {"dog", "mouse"} < set(load_ngram(mixed).words)


def test_mistakes_are_one_line_and_leave_nothing(tmp_path: Path, text: Path) -> None:
    output = tmp_path / "model.arpa"
    (tmp_path / "empty.txt").write_text("\n...\n")
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    mistakes: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ConfigError, "order: 0 is too low", {"text": text, "order": 0}),
        (DataError, "holds no words", {"text": tmp_path / "empty.txt"}),
        (DataError, "latin.txt:1: not UTF-8", {"text": [text, tmp_path / "latin.txt"]}),
        (DataError, "absent: cannot read the text", {"text": tmp_path / "absent"}),
        (DataError, "absent: cannot read the text", {"text": text, "vocabulary": tmp_path / "absent"}),
        (ConfigError, "vocabulary: 0 words", {"text": text, "vocabulary": tmp_path / "empty.txt"}),
        (ConfigError, "vocabulary: -3 words", {"text": text, "vocabulary": -3}),
    ]
    (tmp_path / "empty.txt").write_text("\n")
    for error, problem, options in mistakes:
        with pytest.raises(error, match=problem) as raised:
            ngram_train_command(**{"output": output, "order": 2} | options)
        assert "\n" not in str(raised.value)
        assert not output.exists()
    with pytest.raises(DataError, match="name must end in"):
        ngram_train_command(text=text, output=tmp_path / "model.bin")
    with pytest.raises(DataError, match="models: 1 given"):
        interpolate_command(models=[output], text=text, output=output)


@needs(TEXTS)
def test_a_longer_context_predicts_a_book_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = [TEXTS / "bryant-stories.txt", TEXTS / "burgess-busterbrown.txt"]
    found = []
    for order in (1, 2):
        ngram_train_command(text=books, output=tmp_path / "m.ngram", order=order, sentences="prose")
        capsys.readouterr()
        perplexity_command(lm=tmp_path / "m.ngram", text=TEXTS / "carroll-alice.txt", sentences="prose")
        found.append(float(figures(capsys.readouterr().out)["perplexity, unknown left out"]))
    assert found[1] < 0.6 * found[0]
