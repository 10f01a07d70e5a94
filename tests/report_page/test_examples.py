"""Which utterances are shown, and how their words stand over each other."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from asr_lstm.errors import AudioError
from asr_lstm.manifest import Utterance
from asr_lstm.recognise import Recognition
from asr_lstm.report_page.examples import alignment, choose_examples
from asr_lstm.report_page.source import SplitData
from asr_lstm.scoring import align_words


def split(wrong: list[int], *, failed: tuple[int, ...] = ()) -> SplitData:
    """Utterances of ten words, so many of them wrong."""
    said = ["a b c d e f g h i j"] * len(wrong)
    heard = [" ".join(["x"] * count + text.split()[count:]) for count, text in zip(wrong, said, strict=True)]
    utterances = [Utterance(Path(f"{index}.wav"), text, 1.0) for index, text in enumerate(said)]
    failures = [Recognition(index, "", AudioError("gone")) for index in failed]
    return SplitData("test", utterances, said, heard, failures)


def test_the_worst_the_median_and_some_others_are_chosen() -> None:
    data = split([0, 9, 1, 2, 8, 3, 7, 4, 6, 5, 0, 0, 0, 1, 1, 10], failed=(15,))
    choice = choose_examples(data, seed=1)
    assert choice.worst == [1, 4, 6, 8, 9]
    assert sorted(data.errors[index] for index in choice.median) == [1, 2, 3]  # of 15, the median is 2
    chosen = [*choice.worst, *choice.median, *choice.random]
    assert len(set(chosen)) == len(chosen) == 12
    assert 15 not in chosen
    assert choose_examples(data, seed=1) == choice
    assert len({tuple(choose_examples(data, seed=seed).random) for seed in range(20)}) > 1


@pytest.mark.parametrize(("wrong", "shown"), [([0], 1), ([3], 1), ([0, 0], 2), ([1, 0, 2], 3), ([0] * 20, 7)])
def test_few_utterances_are_each_shown_once(wrong: list[int], shown: int) -> None:
    choice = choose_examples(split(wrong), seed=0)
    chosen = [*choice.worst, *choice.median, *choice.random]
    assert len(chosen) == len(set(chosen)) == shown
    assert len(choice.worst) == sum(count > 0 for count in wrong)


def test_an_alignment_reads_without_colour() -> None:
    root = ElementTree.fromstring(alignment(align_words("a <b> c d e f g", "a x d e f g h"), lang="en"))
    columns = [tuple("".join(part.itertext()).strip("\u00a0") for part in column) for column in root]
    wrong = [column for column in columns if column[2]]
    assert wrong == [("<b>", "x", "S"), ("c", "***", "D"), ("***", "h", "I")]
    assert columns[0] == ("a", "a", "")
    assert root.get("lang") == "en"
    assert root.get("dir") == "auto"
    assert "".join(root.itertext()).split()[0] == "aa"  # a space after each column, not within


def test_a_very_long_alignment_is_cut() -> None:
    shown = alignment(align_words("a " * 500, "a " * 500))
    assert shown.count('class="word equal"') == 300
    assert "... and 200 words more" in shown
