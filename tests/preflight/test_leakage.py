"""What the planted faults of test_inspection do not reach: corpora that share by nature, and stretches of a file."""

from __future__ import annotations

from pathlib import Path

from asr_lstm.manifest import Utterance
from asr_lstm.preflight.corpus import FileFacts, Split
from asr_lstm.preflight.findings import Finding, Row
from asr_lstm.preflight.leakage import check_recordings, check_sentences, check_speakers


def row(
    split: str, id: str, text: str = "", *, path: str = "", offset: float = 0.0, speaker: str = ""
) -> Row:
    file = Path(path or f"{id}.wav")
    return Row(split, Utterance(file, text, 2.0, offset=offset, speaker=speaker, id=id), text)


def split(*rows: Row) -> Split:
    name = rows[0].split
    return Split(name, Path(f"{name}.jsonl"), list(rows), name.startswith("train"))


def ids(finding: Finding) -> list[str]:
    return [place.id for place in finding.places]


def test_stretches_of_one_file_are_one_recording_between_splits_and_two_within_one() -> None:
    train = split(
        row("train", "a", "x", path="long.wav"), row("train", "b", "y", path="long.wav", offset=2.0)
    )
    test = split(row("test", "c", "z", path="long.wav", offset=4.0))
    assert check_recordings([train], {}) == []
    (finding,) = check_recordings([train, test], {})
    assert (finding.severity, ids(finding)) == ("serious", ["c"])


def test_stretches_that_overlap_by_half_are_the_same_utterance() -> None:
    def found(offset: float) -> list[list[str]]:
        rows = row("train", "a", "x", path="f.wav"), row("train", "b", "x", path="f.wav", offset=offset)
        return [ids(finding) for finding in check_recordings([split(*rows)], {})]

    assert found(1.1) == []
    assert found(0.9) == [["b"]]


def test_files_of_equal_content_are_one_recording() -> None:
    facts = {
        Path(name): FileFacts(2.0, 8000, 1, content)
        for name, content in (("a.wav", "1"), ("b.wav", "1"), ("c.wav", "2"))
    }
    train, dev = split(row("train", "a", "x")), split(row("dev", "b", "y"), row("dev", "c", "z"))
    (finding,) = check_recordings([train, dev], facts)
    assert ids(finding) == ["b"]


def test_test_sets_may_share_recordings_with_each_other() -> None:
    pooled = split(row("test", "a", "x"))
    part = split(row("test-jackson", "a2", "x", path="a.wav"))
    assert check_recordings([split(row("train", "b", "x")), pooled, part], {}) == []


def test_one_speaker_alone_is_a_note() -> None:
    train, test = split(row("train", "a", speaker="me")), split(row("test", "b", speaker="me"))
    assert [finding.severity for finding in check_speakers([train, test])] == ["note"]
    others = split(row("train", "a", speaker="me"), row("train", "c", speaker="you"))
    assert [finding.severity for finding in check_speakers([others, test])] == ["serious"]


def sentences(train: list[str], test: list[str]) -> list[Finding]:
    return check_sentences(
        [
            split(*(row("train", f"train{index}", text) for index, text in enumerate(train))),
            split(*(row("test", f"test{index}", text) for index, text in enumerate(test))),
        ]
    )


MANY = [" ".join(f"w{index + step}" for step in range(8)) for index in range(0, 2000, 8)]


def test_prompts_that_everybody_reads_are_a_note() -> None:
    (finding,) = sentences(MANY * 3, MANY[:5])
    assert finding.severity == "note"
    assert ids(finding) == [f"test{index}" for index in range(5)]


def test_a_few_shared_sentences_are_a_warning_and_many_are_serious() -> None:
    new = [text.replace("w", "v") for text in MANY[:99]]
    (few,) = sentences(MANY, [MANY[0], *new])
    assert (few.severity, ids(few)) == ("warning", ["test0"])
    (many,) = sentences(MANY, [*MANY[:10], *new])
    assert many.severity == "serious"


def test_short_phrases_and_sentences_that_differ_in_two_words_are_not_the_same() -> None:
    differing = " ".join(["other", *MANY[0].split()[1:-1], "words"])
    assert (
        sentences([*MANY, "thank you very", "good morning"], ["thank you very", "good morning", differing])
        == []
    )


def test_a_word_more_less_or_otherwise_is_nearly_the_same() -> None:
    words = MANY[0].split()
    changed = [[*words, "more"], words[1:], [*words[:3], "other", *words[4:]]]
    # Eight words are the least for this: of nine, eight are left.
    longer = [" ".join(["w0", *text]) for text in changed]
    (finding,) = sentences([*MANY[1:], " ".join(["w0", *words])], longer)
    assert ids(finding) == ["test0", "test1", "test2"]
    assert all("nearly as" in place.detail for place in finding.places)
