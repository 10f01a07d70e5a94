from __future__ import annotations

import random
from dataclasses import asdict

import jiwer
import numpy as np
import pytest
from scipy.stats import beta, binom

from asr_lstm.scoring import align_words, binomial_interval, count_errors, score


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's distance by its recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        previous, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (said != heard))
    return row[-1]


def random_text(generator: random.Random, *, most: int = 9) -> str:
    return " ".join(generator.choices(["a", "ab", "b", "ba", "cab", "é"], k=generator.randint(0, most)))


def random_pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    return [random_text(generator) for _ in range(count)], [random_text(generator) for _ in range(count)]


def test_rates_computed_by_hand() -> None:
    scores = score(["the cat sat", "on the mat"], ["the bat sat down", "on mat"])
    assert (scores.substitutions, scores.deletions, scores.insertions) == (1, 1, 1)
    assert scores.wer == pytest.approx(3 / 6)
    # "cat" to "bat" 1, " down" 5, "the " 4; 11 and 10 characters with their spaces
    assert scores.cer == pytest.approx(10 / 21)
    assert (scores.words, scores.characters, scores.utterances) == (6, 21, 2)
    assert scores.interval == "utterance bootstrap"


def test_a_lost_space_is_a_character_error() -> None:
    scores = score(["ice cream"], ["icecream"])
    assert scores.cer == pytest.approx(1 / 9)
    assert scores.wer == 1.0


def test_counts_agree_with_the_recurrence_on_random_text() -> None:
    references, hypotheses = random_pairs(300)
    words = count_errors(references, hypotheses)
    characters = count_errors(references, hypotheses, by="character")
    for index, (said, heard) in enumerate(zip(references, hypotheses, strict=True)):
        assert words.errors[index] == distance(said.split(), heard.split())
        assert characters.errors[index] == distance(list(said), list(heard))
        assert words.length[index] == len(said.split())
        assert characters.length[index] == len(said)
        balance = words.insertions[index] - words.deletions[index]
        assert balance == len(heard.split()) - len(said.split())


def test_totals_are_jiwers() -> None:
    references, hypotheses = random_pairs(200, seed=1)
    scores = score(references, hypotheses, resamples=10)
    words = jiwer.process_words(references, hypotheses)
    assert scores.wer == pytest.approx(words.wer)
    assert scores.cer == pytest.approx(jiwer.cer(references, hypotheses))
    found = (scores.substitutions, scores.deletions, scores.insertions)
    assert found == (words.substitutions, words.deletions, words.insertions)


@pytest.mark.parametrize(
    ("references", "hypotheses", "wer", "insertions", "deletions"),
    [
        ([""], [""], 0.0, 0, 0),
        ([""], ["two words"], 2.0, 2, 0),  # no word to divide by: the number of errors
        (["two words"], [""], 1.0, 0, 2),
        (["one", ""], ["one", "more"], 1.0, 1, 0),
    ],
)
def test_empty_texts(references, hypotheses, wer: float, insertions: int, deletions: int) -> None:
    scores = score(references, hypotheses)
    assert (scores.wer, scores.insertions, scores.deletions) == (wer, insertions, deletions)
    numbers = [value for value in asdict(scores).values() if not isinstance(value, str)]
    assert np.isfinite(numbers).all()
    assert scores.wer_low <= scores.wer <= scores.wer_high


def test_without_an_error_the_bound_is_exact() -> None:
    scores = score(["one two three", "four five"] * 10, ["one two three", "four five"] * 10)
    assert scores.interval == "exact binomial"
    assert (scores.wer, scores.wer_low) == (0.0, 0.0)
    assert scores.wer_high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert scores.cer_high == pytest.approx(1 - 0.025 ** (1 / 220))


def test_one_utterance_and_all_wrong_still_have_an_interval() -> None:
    one = score(["a b c d e f g h"], ["a b c d e f x y"])
    assert one.interval == "exact binomial"
    assert (one.wer_low, one.wer_high) == pytest.approx(
        (0.0319, 0.6509), abs=1e-4
    )  # Clopper and Pearson, 2 of 8
    wrong = score(["a b"] * 10, ["", *["x y"] * 9])
    assert wrong.interval == "exact binomial"
    assert (wrong.wer_low, wrong.wer_high) == pytest.approx((0.025 ** (1 / 20), 1.0))
    twice = score(["a"], ["x y z"])
    assert twice.wer_high == twice.wer == 3.0


@pytest.mark.parametrize("trials", [1, 7, 100, 5000])
def test_binomial_interval_is_clopper_and_pearsons(trials: int) -> None:
    for errors in sorted({0, 1, trials // 3, trials // 2, trials - 1, trials}):
        low, high = binomial_interval(errors, trials)
        assert low == pytest.approx(beta.ppf(0.025, errors, trials - errors + 1) if errors else 0.0, abs=1e-9)
        expected = beta.ppf(0.975, errors + 1, trials - errors) if errors < trials else 1.0
        assert high == pytest.approx(expected, abs=1e-9)
    assert binomial_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="errors must lie between"):
        binomial_interval(trials + 1, trials)


def test_bootstrap_of_single_words_is_the_binomial_spread() -> None:
    utterances, wrong = 1000, 120
    hypotheses = ["x"] * wrong + ["a"] * (utterances - wrong)
    scores = score(["a"] * utterances, hypotheses, resamples=20_000)
    expected = binom.ppf([0.025, 0.975], utterances, wrong / utterances) / utterances
    assert (scores.wer_low, scores.wer_high) == pytest.approx(tuple(expected), abs=0.0015)


def test_speakers_are_drawn_together_from_ten_up() -> None:
    """Each speaker is all right or all wrong: by speaker the spread is that of 40 draws, not of 800."""
    groups = [f"speaker {index // 20}" for index in range(800)]
    references, hypotheses = ["a"] * 800, ["x" if index // 20 < 8 else "a" for index in range(800)]
    by_speaker = score(references, hypotheses, groups=groups)
    assert by_speaker.interval == "speaker bootstrap"
    expected = binom.ppf([0.025, 0.975], 40, 0.2) / 40
    assert (by_speaker.wer_low, by_speaker.wer_high) == pytest.approx(tuple(expected), abs=0.026)
    by_utterance = score(references, hypotheses)
    assert by_utterance.interval == "utterance bootstrap"
    assert by_utterance.wer_high - by_utterance.wer_low < 0.06


@pytest.mark.parametrize(
    ("speakers", "expected"),
    [
        ([str(index % 10) for index in range(40)], "speaker bootstrap"),
        ([str(index % 9) for index in range(40)], "utterance bootstrap"),
        (["", *map(str, range(39))], "utterance bootstrap"),  # who spoke the first is not known
    ],
)
def test_what_is_drawn(speakers: list[str], expected: str) -> None:
    references, hypotheses = random_pairs(40, seed=2)
    assert score(references, hypotheses, groups=speakers).interval == expected


def test_the_order_of_speakers_utterances_does_not_matter() -> None:
    references, hypotheses = random_pairs(60, seed=3)
    groups = [str(index // 5) for index in range(60)]
    order = sorted(range(60), key=lambda index: (index % 5, index // 5))  # first occurrences stay in order
    shuffled = score(
        [references[i] for i in order], [hypotheses[i] for i in order], groups=[groups[i] for i in order]
    )
    assert shuffled == score(references, hypotheses, groups=groups)


def test_intervals_cover_the_true_rate() -> None:
    """Of 200 test sets of 150 utterances with a true rate of 20 %, about 95 % of the intervals hold it."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        lengths = generator.integers(3, 12, 150)
        wrong = generator.binomial(lengths, 0.2)
        references = [" ".join(["a"] * length) for length in lengths]
        hypotheses = [
            " ".join(["x"] * bad + ["a"] * (length - bad)) for bad, length in zip(wrong, lengths, strict=True)
        ]
        scores = score(references, hypotheses, resamples=300)
        covered += scores.wer_low <= 0.2 <= scores.wer_high
    assert 180 <= covered <= 199


def test_the_seed_decides_the_interval_and_nothing_else() -> None:
    references, hypotheses = random_pairs(50, seed=4)
    first, again, other = (score(references, hypotheses, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.wer_low, first.wer_high) != (other.wer_low, other.wer_high)
    assert first.wer == other.wer


def test_alignment_column_by_column() -> None:
    edits = align_words("the cat sat on a mat", "the bat sat a mat now")
    assert [edit.kind for edit in edits] == [
        "equal", "substitute", "equal", "delete", "equal", "equal", "insert",
    ]  # fmt: skip
    assert [edit.reference for edit in edits] == ["the", "cat", "sat", "on", "a", "mat", ""]
    assert [edit.hypothesis for edit in edits] == ["the", "bat", "sat", "", "a", "mat", "now"]
    assert align_words("", "") == []
    assert [edit.kind for edit in align_words("", "a b")] == ["insert", "insert"]


def test_alignments_spell_both_sides_with_the_fewest_errors() -> None:
    for said, heard in zip(*random_pairs(200, seed=5), strict=True):
        edits = align_words(said, heard)
        assert " ".join(edit.reference for edit in edits if edit.kind != "insert") == said
        assert " ".join(edit.hypothesis for edit in edits if edit.kind != "delete") == heard
        assert all((edit.reference == edit.hypothesis) == (edit.kind == "equal") for edit in edits)
        assert sum(edit.kind != "equal" for edit in edits) == distance(said.split(), heard.split())


@pytest.mark.parametrize(
    ("arguments", "options", "complaint"),
    [
        (([], []), {}, "references: there is nothing to score"),
        ((["a"], ["a", "b"]), {}, "hypotheses: 2 of them for 1 references"),
        ((["a"], ["b"]), {"groups": []}, "groups: 0 of them for 1 references"),
        ((["a"], ["b"]), {"resamples": 0}, "resamples must be positive"),
    ],
)
def test_impossible_arguments(arguments, options, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        score(*arguments, **options)
