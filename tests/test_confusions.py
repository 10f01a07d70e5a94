from __future__ import annotations

import jiwer
import pytest

from asr_lstm.confusions import confusions, most, oracle_wer

SAID = ["the cat sat", "a cat", "on the mat", ""]
HEARD = ["the hat sat down", "a hat", "on mat", "oh"]


def test_errors_by_word() -> None:
    counts = confusions(SAID, HEARD)
    assert counts.substituted == {("cat", "hat"): 2}
    assert counts.deleted == {"the": 1}
    assert counts.inserted == {"down": 1, "oh": 1}
    assert counts.replaced == {"cat": 2}
    assert counts.wrong == {"cat": 2, "the": 1}
    assert counts.said == {"the": 2, "cat": 2, "sat": 1, "a": 1, "on": 1, "mat": 1}


def test_json_has_totals_words_and_pairs() -> None:
    found = confusions(SAID, HEARD).to_json()
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (2, 1, 2)
    assert found["words"] == {
        "cat": [2, 2, 0, 0],
        "down": [0, 0, 0, 1],
        "oh": [0, 0, 0, 1],
        "the": [2, 0, 1, 0],
    }
    assert list(found["words"]) == ["cat", "down", "oh", "the"]
    assert found["pairs"] == [["cat", "hat", 2]]


def test_totals_are_jiwers() -> None:
    expected = jiwer.process_words(SAID, HEARD)
    found = confusions(SAID, HEARD).to_json()
    totals = (found["substitutions"], found["deletions"], found["insertions"])
    assert totals == (expected.substitutions, expected.deletions, expected.insertions)


def test_most() -> None:
    counts = confusions(["a b c", "b c", "c"], ["", "", "d"]).wrong
    assert most(counts) == [("c", 3), ("b", 2), ("a", 1)]
    assert most(counts, limit=1) == [("c", 3)]


def test_the_oracle_takes_the_best_of_each() -> None:
    texts = [["the hat sat", "the cat sat", "a"], ["a hat"], ["x", "on mat"], ["oh", ""]]
    best = ["the cat sat", "a hat", "on mat", ""]
    assert oracle_wer(SAID, texts) == pytest.approx(jiwer.wer(SAID, best))
    firsts = [several[0] for several in texts]
    assert oracle_wer(SAID, [[text] for text in firsts]) == pytest.approx(jiwer.wer(SAID, firsts))


def test_the_oracle_needs_texts() -> None:
    with pytest.raises(ValueError, match="texts: an utterance has none"):
        oracle_wer(["a"], [[]])
