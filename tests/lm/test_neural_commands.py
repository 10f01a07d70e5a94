from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asr_lstm.errors import ConfigError
from asr_lstm.lm.commands import ngram_train_command, perplexity_command, train_action
from asr_lstm.lm.neural.bundle import NeuralLM, save_neural
from asr_lstm.lm.neural.text_units import WordTextUnits
from asr_lstm.units import Normaliser

RandomLM = Callable[..., NeuralLM]


def figures(output: str) -> dict[str, list[str]]:
    """The rows of a printed table."""
    cells = [[cell.strip() for cell in line.split("│")] for line in output.splitlines() if "│" in line]
    return {row[1]: row[2:-1] for row in cells}


def halves(lm: NeuralLM) -> NeuralLM:
    """The model made to give each unit the same probability."""
    with torch.no_grad():
        lm.model.embedding.weight.zero_()
        lm.model.bias.zero_()
    return lm


def test_perplexity_of_an_lstm(
    random_lm: RandomLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_neural(tmp_path / "model", halves(random_lm(" ab", normaliser=Normaliser())), card="")
    (tmp_path / "text.txt").write_text("AB, a\n\nB!\n")
    assert perplexity_command(lm=tmp_path / "model", text=tmp_path / "text.txt") == 0
    table = figures(capsys.readouterr().out)
    assert (table["lines"], table["characters"], table["words"]) == (["2"], ["7"], ["3"])
    assert table["bits a character"] == ["2.0000"]
    assert table["nats a character"] == [f"{2 * math.log(2):.4f}"]
    assert table["perplexity a word"] == [f"{2 ** (14 / 5):.4f}"]


def test_models_side_by_side(
    random_lm: RandomLM, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train.txt").write_text("a b\nb a b\na a\n")
    (tmp_path / "text.txt").write_text("a b c\nb\n")
    ngram_train_command(text=tmp_path / "train.txt", output=tmp_path / "m.arpa", order=2)
    lm = halves(random_lm(WordTextUnits(["<unk>", "a", "b"]), normaliser=Normaliser()))
    save_neural(tmp_path / "model", lm, card="")
    capsys.readouterr()
    perplexity_command(lm=[tmp_path / "m.arpa", tmp_path / "model"], text=tmp_path / "text.txt")
    table = figures(capsys.readouterr().out)
    assert table["sentences"] == ["2", "2"]
    assert table["words"] == ["4", "4"]
    assert table["unknown words"] == ["1 (25.00%)"] * 2
    assert table["perplexity"][1] == "4.0000"
    assert table["perplexity, unknown left out"][1] == "4.0000"
    assert table["perplexity, earlier sentences remembered"][0] == ""
    assert "cannot be compared" not in caplog.text
    ngram_train_command(text=tmp_path / "text.txt", output=tmp_path / "other.arpa", order=2)
    with caplog.at_level(logging.WARNING):
        perplexity_command(lm=[tmp_path / "other.arpa", tmp_path / "model"], text=tmp_path / "text.txt")
    assert "cannot be compared" in caplog.text


def test_an_ngram_of_characters_tells_nats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("ab\nba\n")
    ngram_train_command(text=tmp_path / "text.txt", output=tmp_path / "m.arpa", order=1, tokens="characters")
    capsys.readouterr()
    perplexity_command(lm=tmp_path / "m.arpa", text=tmp_path / "text.txt", tokens="characters")
    table = figures(capsys.readouterr().out)
    assert float(table["nats a character"][0]) == pytest.approx(
        math.log(float(table["perplexity"][0])), abs=2e-3
    )


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a\n")
    with pytest.raises(ConfigError, match="no language model"):
        perplexity_command(lm=tmp_path, text=tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("arguments", "kind", "rest"),
    [
        (["--text", "a"], "ngram", ["--text", "a"]),
        (
            ["--kind", "lstm", "--text=a", "--network.layers", "2"],
            "lstm",
            ["--text=a", "--network.layers", "2"],
        ),
        (["--order", "3", "--kind=ngram"], "ngram", ["--order", "3"]),
        (["--kind=lstm", "--help"], "lstm", ["--help"]),
    ],
)
def test_the_kind_of_model_is_an_option_of_train(arguments: list[str], kind: str, rest: list[str]) -> None:
    assert train_action(arguments) == (kind, rest)


@pytest.mark.parametrize("arguments", [["--kind", "gru"], ["--kind"], ["--kind="]])
def test_other_kinds_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="neither ngram nor lstm"):
        train_action(arguments)
