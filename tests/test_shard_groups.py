"""Some shards at a time: reads stay within them, every row is read once, and a saved place means what it meant."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_lstm import shards as shards_module
from asr_lstm.audio import load_utterance
from asr_lstm.batch_plan import count_batches, plan_batches
from asr_lstm.batching import DataConfig, EpochSampler
from asr_lstm.data import SpeechData
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.manifest_index import ManifestIndex, open_manifest, shards_of, take
from asr_lstm.shard_groups import ShardGroups
from asr_lstm.shards import Shards, read_ahead, shard_command
from asr_lstm.units import CharacterUnits, Normaliser

RATE = 8000
ROWS, ROWS_OF_PLANS, AT_ONCE = 40, 1200, 2


def groups(
    *, rows: int = ROWS_OF_PLANS, shards: int = 7, at_once: int = AT_ONCE, seed: int = 3
) -> ShardGroups:
    numbers = np.sort(np.random.default_rng(0).integers(0, shards, rows)).astype(np.int32)
    return ShardGroups(Shards(numbers, [Path(f"{number}.tar") for number in range(shards)]), at_once, seed)


def sampler(**options: int) -> EpochSampler:
    durations = np.random.default_rng(1).uniform(1, 9, ROWS_OF_PLANS)
    return EpochSampler(durations, max_seconds=40.0, seed=3, shards=groups(), **options)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 40 recordings in five shards."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    rows = []
    for index in range(ROWS):
        seconds = float(random.uniform(4, 14))
        path = folder / f"{index}.wav"
        soundfile.write(path, random.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
        rows.append(Utterance(path, "a", round(seconds, 3)))
    write_manifest(folder / "train.jsonl", rows)
    shard_command(manifest=folder / "train.jsonl", output=folder / "shards", shard_mib=1)
    assert len(list((folder / "shards").glob("*.tar"))) == 5
    return folder / "shards" / "train.jsonl"


def test_reads_touch_one_group_after_another_and_every_row_once(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    advise = os.posix_fadvise

    def note(file: int, start: int, count: int, advice: int) -> None:
        asked.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        advise(file, start, count, advice)

    monkeypatch.setattr(shards_module.os, "posix_fadvise", note)
    read: list[tuple[str, str]] = []

    def load(utterance: Utterance) -> np.ndarray:
        read.append((utterance.path.parent.name, utterance.id))
        return load_utterance(utterance)

    config = DataConfig(batch_seconds=45.0, shards_at_once=AT_ONCE)
    train = open_manifest(sharded, Normaliser())
    data = SpeechData(train, train[:1], CharacterUnits("a"), load, config=config, augment=None, seed=3)
    orders = []
    for _ in range(3):
        read.clear()
        asked.clear()
        batches = [batch.indices.tolist() for batch in data.train_dataloader()]
        assert Counter(itertools.chain(*batches)) == Counter(range(ROWS))
        assert len(read) == len({id for _, id in read}) == ROWS
        shards = list(dict.fromkeys(name for name, _ in read))
        parts = [set(shards[start : start + AT_ONCE]) for start in range(0, len(shards), AT_ONCE)]
        places = [next(place for place, part in enumerate(parts) if name in part) for name, _ in read]
        assert places == sorted(places), "a group is left once and for all"
        # The coming group, and after the last one that of the next epoch.
        assert set().union(*parts[1:]) <= set(asked)
        assert list(dict.fromkeys(asked))[: len(shards) - AT_ONCE] == [
            name for part in parts[1:] for name in sorted(part)
        ]
        orders.append(shards)
        data.sampler.next_epoch()
    assert len({tuple(order) for order in orders}) == 3


def test_a_list_and_an_index_of_rows_lie_in_the_same_shards(sharded: Path) -> None:
    rows, index = read_manifest(sharded), open_manifest(sharded, Normaliser())
    some = np.array([30, 2, 17, 31])
    for one, other in ((rows, index), (take(rows, some), take(index, some))):
        assert isinstance(other, ManifestIndex)
        left, right = shards_of(one), shards_of(other)
        assert [left.paths[number] for number in left.numbers] == [row.path.parent for row in one]
        assert [right.paths[number] for number in right.numbers] == [row.path.parent for row in one]


def test_a_file_of_its_own_is_named(sharded: Path) -> None:
    rows = [*read_manifest(sharded), Utterance(Path("loose.wav"), "a", 1.0)]
    with pytest.raises(ConfigError, match=r"shards_at_once: loose\.wav is a file of its own.*asr-lstm shard"):
        SpeechData(
            rows, rows[:1], CharacterUnits("a"), load_utterance,
            config=DataConfig(shards_at_once=1), augment=None, seed=3,
        )  # fmt: skip


@pytest.mark.parametrize("world", [1, 2, 3])
def test_updates_are_counted_and_shared_out_as_without_shards(world: int) -> None:
    size = 2 * world
    for epoch in range(4):
        whole = sampler(group=size)
        plan = whole.plan(epoch)
        assert sorted(itertools.chain(*plan)) == list(range(ROWS_OF_PLANS))
        assert whole.updates(epoch) == -(-len(plan) // size)
        shares = [sampler(group=size, rank=rank, world=world) for rank in range(world)]
        for share in shares:
            share.epoch = epoch
        dealt = [[draw.index for draw in batch] for turn in zip(*shares, strict=True) for batch in turn]
        assert dealt[: len(plan)] == plan
        lengths = [max(whole.durations[batch]) for batch in plan]
        updates = [lengths[start : start + size] for start in range(0, len(plan), size)]
        spread = sorted(max(update) / min(update) for update in updates)
        # Where one group of shards meets the next, three times here, an update has lengths of both.
        assert spread[len(spread) // 2] < 1.5


def test_a_saved_place_goes_on_with_the_rest() -> None:
    first = sampler(group=2)
    first.next_epoch()
    whole = list(first)
    for _ in range(11):
        first.consume()
    again = sampler(group=2)
    again.load_state_dict(first.state_dict())
    assert list(again) == whole[11:]


def test_parts_are_planned_by_themselves() -> None:
    durations = np.random.default_rng(0).uniform(1, 9, 100)
    parts = [np.arange(60, 100), np.arange(60)]
    options = {"max_seconds": 30.0, "seed": 1, "epoch": 0, "parts": parts}
    plan = plan_batches(durations, **options, shortest_first=1.0)
    assert len(plan) == count_batches(durations, **options)
    sides = [min(batch) >= 60 for batch in plan]
    assert sides == sorted(sides, reverse=True)
    assert all(min(batch) >= 60 or max(batch) < 60 for batch in plan)
    first = [max(durations[batch]) for batch, side in zip(plan, sides, strict=True) if side]
    assert np.corrcoef(first, range(len(first)))[0, 1] > 0.9


def test_reading_ahead_asks_for_every_byte_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path, size in zip(paths, (1000, 0, 37, 500), strict=True):
        path.write_bytes(b"x" * size)
    paths.insert(1, tmp_path / "missing")
    asked: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        shards_module.os,
        "posix_fadvise",
        lambda file, start, count, _: asked.append((os.readlink(f"/proc/self/fd/{file}")[-1], start, count)),
    )
    shares = np.linspace(0, 1, 8).tolist()
    for start, end in itertools.pairwise(shares):
        read_ahead(paths, start, end)
    for name, size in (("a", 1000), ("c", 37), ("d", 500)):
        pieces = [(start, count) for file, start, count in asked if file == name]
        assert [start for start, _ in pieces] == [0, *np.cumsum([count for _, count in pieces])[:-1].tolist()]
        assert sum(count for _, count in pieces) == size
    assert [file for file, _, _ in asked] == sorted(file for file, _, _ in asked)
    monkeypatch.delattr(shards_module.os, "posix_fadvise")
    read_ahead(paths, 0.0, 1.0)
