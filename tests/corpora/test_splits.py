from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asr_lstm.corpora.splits import Splits, check_shares, split_utterances
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance


def _utterance(
    name: str, seconds: float = 2.0, *, speaker: str = "", file: str = "", offset: float = 0.0
) -> Utterance:
    return Utterance(Path(f"/nowhere/{file or name}.wav"), "x", seconds, offset, speaker, name)


def _corpus(speakers: int, each: int, *, seed: int = 0) -> list[Utterance]:
    chance = random.Random(seed)
    return [
        _utterance(f"s{number}/{index}", chance.uniform(1, 5), speaker=f"s{number}")
        for number in range(speakers)
        for index in range(each)
    ]


def _hours(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration for utterance in utterances)


def _all_there_once(splits: Splits, utterances: Sequence[Utterance]) -> bool:
    ids = [utterance.id for rows in splits.utterances.values() for utterance in rows]
    return sorted(ids) == sorted(utterance.id for utterance in utterances)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("speakers", "each"), [(5, 50), (20, 20), (60, 11), (300, 3)])
def test_speakers_are_held_out_whole_and_near_the_share(speakers: int, each: int, seed: int) -> None:
    utterances = _corpus(speakers, each, seed=seed)
    splits = split_utterances(utterances, dev=0.1, test=0.15, seed=seed)
    assert list(splits.utterances) == ["train", "dev", "test"]
    assert _all_there_once(splits, utterances)
    voices = {split: {row.speaker for row in rows} for split, rows in splits.utterances.items()}
    assert sum(map(len, voices.values())) == speakers
    total = _hours(utterances)
    largest = max(
        _hours([row for row in utterances if row.speaker == speaker])
        for speaker in set().union(*voices.values())
    )
    for split, share in (("dev", 0.1), ("test", 0.15)):
        assert abs(_hours(splits.utterances[split]) - share * total) <= largest
    assert splits.notes == []


@pytest.mark.parametrize("seed", range(5))
def test_recordings_are_held_out_where_no_speaker_is_known(seed: int) -> None:
    chance = random.Random(seed)
    utterances = [
        _utterance(f"r{number}-{index}", chance.uniform(1, 9), file=f"r{number}", offset=10.0 * index)
        for number in range(80)
        for index in range(chance.randrange(1, 6))
    ]
    splits = split_utterances(utterances, seed=seed)
    files = [{row.path for row in rows} for rows in splits.utterances.values()]
    assert sum(map(len, files)) == 80
    total = _hours(utterances)
    for split in ("dev", "test"):
        assert 0.07 * total < _hours(splits.utterances[split]) < 0.13 * total
    (note,) = splits.notes
    assert note.startswith(
        "split by recording, since no speakers are known: voices of the training may be in dev"
    )


def test_two_names_of_one_file_stay_together(tmp_path: Path) -> None:
    utterances = []
    for number in range(40):
        (tmp_path / f"{number}.wav").touch()
        (tmp_path / f"link{number}.wav").symlink_to(f"{number}.wav")
        for name in (f"{number}", f"link{number}"):
            utterances.append(replace(_utterance(name), path=tmp_path / f"{name}.wav"))
    splits = split_utterances(utterances).utterances
    assert sum(map(len, splits.values())) == len(utterances)
    assert all(splits[name] for name in ("train", "dev", "test"))
    for rows in splits.values():
        names = {row.id.removeprefix("link") for row in rows}
        assert len(rows) == 2 * len(names)


def test_a_dialogue_binds_its_speakers_together() -> None:
    utterances = _corpus(30, 10)
    bound = [("s0", "s1"), ("s1", "s2"), ("s7", "s8")]
    for number, pair in enumerate(bound):
        for index, speaker in enumerate(pair):
            name = f"talk{number}-{index}"
            utterances.append(_utterance(name, speaker=speaker, file=f"talk{number}", offset=5.0 * index))
    for seed in range(10):
        splits = split_utterances(utterances, seed=seed)
        place = {row.speaker: split for split, rows in splits.utterances.items() for row in rows}
        assert all(place[one] == place[other] for one, other in bound)
        assert splits.notes == []


@pytest.mark.parametrize(
    ("speakers", "why"),
    [
        (["anna"], "there is one speaker"),
        (["anna", "bob"], "holding out some of the 2 speakers"),
        (["anna", "bob", "cora"], "holding out some of the 3 speakers"),
    ],
)
def test_few_speakers_share_the_splits_and_it_is_said(speakers: list[str], why: str) -> None:
    utterances = [_utterance(f"{name}{index}", speaker=name) for name in speakers for index in range(200)]
    splits = split_utterances(utterances)
    assert _hours(splits.utterances["train"]) == pytest.approx(0.8 * _hours(utterances), rel=0.05)
    (note,) = splits.notes
    assert note.startswith(f"split by recording, since {why}")


def test_an_agent_in_every_call_does_not_stop_the_division() -> None:
    utterances = []
    for call in range(100):
        for turn in range(4):
            speaker = "agent" if turn % 2 else f"caller{call}"
            utterances.append(
                _utterance(f"{call}-{turn}", speaker=speaker, file=f"call{call}", offset=2.0 * turn)
            )
    splits = split_utterances(utterances)
    assert [len(rows) for rows in splits.utterances.values()] == [320, 40, 40]
    assert "split by recording" in splits.notes[0]


def test_few_utterances_give_more_than_a_tenth() -> None:
    sizes = {}
    for count in (3, 10, 60, 150, 400):
        splits = split_utterances([_utterance(f"{index}") for index in range(count)])
        sizes[count] = [len(rows) for rows in splits.utterances.values()]
        assert any("rough" in note for note in splits.notes) == (count < 100)
    assert sizes == {3: [1, 1, 1], 10: [6, 2, 2], 60: [36, 12, 12], 150: [110, 20, 20], 400: [320, 40, 40]}


def test_a_long_recording_among_short_ones_is_learned_from() -> None:
    utterances = [_utterance("long", 900.0), *(_utterance(f"{index}", 1.0) for index in range(20))]
    splits = split_utterances(utterances)
    assert "long" in {row.id for row in splits.utterances["train"]}
    assert _all_there_once(splits, utterances)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_recordings_are_refused(count: int) -> None:
    utterances = [_utterance(f"{index}", file=f"{index % count}", offset=float(index)) for index in range(50)]
    with pytest.raises(
        DataError, match=f"^{count} recordings? cannot be divided into train and dev and test"
    ):
        split_utterances(utterances)


def test_the_same_seed_gives_the_same_splits_wherever_the_folder_lies() -> None:
    utterances = _corpus(20, 10)
    moved = [replace(row, path=Path("/other") / f"{row.id}.wav") for row in reversed(utterances)]

    def ids(rows: Sequence[Utterance], seed: int) -> dict[str, list[str]]:
        splits = split_utterances(rows, seed=seed).utterances
        return {split: [row.id for row in rows] for split, rows in splits.items()}

    assert ids(utterances, 1) == ids(moved, 1)
    assert len({str(ids(utterances, seed)) for seed in range(6)}) > 3


def test_most_of_a_test_set_stays_where_the_folder_grows() -> None:
    utterances = _corpus(50, 10)
    more = [*utterances, *(_utterance(f"new/{index}", 3.0, speaker="new") for index in range(10))]
    before, after = (split_utterances(rows).utterances for rows in (utterances, more))
    old = {row.speaker for row in before["test"]}
    assert len(old & {row.speaker for row in after["test"]}) >= len(old) - 1


def test_no_test_split_where_none_is_wanted() -> None:
    splits = split_utterances(_corpus(20, 10), test=0)
    assert list(splits.utterances) == ["train", "dev"]


def test_a_speaker_and_an_id_of_one_name_are_two() -> None:
    utterances = [*_corpus(8, 20), *(_utterance(f"s{number}") for number in range(8))]
    assert _all_there_once(split_utterances(utterances), utterances)


# --- given splits


def test_given_splits_are_kept() -> None:
    utterances = _corpus(6, 10)
    names = [["test-b", "train", "dev", "train", "test-a", "train"][index // 10] for index in range(60)]
    splits = split_utterances(utterances, names=names)
    assert list(splits.utterances) == ["train", "dev", "test-a", "test-b"]
    found = {row.id: split for split, rows in splits.utterances.items() for row in rows}
    assert [found[row.id] for row in utterances] == names
    assert sorted(splits.notes) == [
        f"{split}: only 10 utterances, so its rates are rough" for split in ("dev", "test-a", "test-b")
    ]


def test_a_missing_dev_is_taken_from_train_and_test_is_not_touched() -> None:
    utterances = _corpus(20, 10)
    names = ["test" if row.speaker in ("s3", "s4") else "train" for row in utterances]
    splits = split_utterances(utterances, names=names)
    assert list(splits.utterances) == ["train", "dev", "test"]
    assert {row.speaker for row in splits.utterances["test"]} == {"s3", "s4"}
    assert not {row.speaker for row in splits.utterances["dev"]} & {
        row.speaker for row in splits.utterances["train"]
    }
    assert _all_there_once(splits, utterances)


def test_a_recording_in_two_given_splits_is_noted() -> None:
    utterances = [_utterance(f"{index}", file="one", offset=float(index)) for index in range(60)]
    names = ["train" if index < 20 else "dev" if index < 40 else "test" for index in range(60)]
    notes = split_utterances(utterances, names=names).notes
    assert notes == [
        f"{split}: 1 of its recordings are also in the training data, as given" for split in ("dev", "test")
    ]


def test_given_splits_without_train_are_refused() -> None:
    with pytest.raises(DataError, match="the splits given are test, dev; name those to learn from"):
        split_utterances(_corpus(2, 1), names=["test", "dev"])


@pytest.mark.parametrize(
    ("dev", "test"), [(0, 0.1), (-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (float("nan"), 0.1)]
)
def test_impossible_shares(dev: float, test: float) -> None:
    with pytest.raises(ValueError, match="dev, test"):
        check_shares(dev, test)
    with pytest.raises(ValueError, match="dev, test"):
        split_utterances(_corpus(9, 9), dev=dev, test=test)
