"""Synthetic speech that fades: which utterances an epoch hears, and a training that goes through it."""

from __future__ import annotations

import itertools
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_training as small
import test_fit as stage
from rich.console import Console

from asr_lstm import data as module
from asr_lstm import set_up
from asr_lstm.batching import EpochSampler
from asr_lstm.bootstrap import BootstrapConfig
from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.config import Recipe
from asr_lstm.data import SpeechData
from asr_lstm.errors import ConfigError, TrainingInterrupted
from asr_lstm.fading import Fading, fade_synthetic
from asr_lstm.fit import fit
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.manifest_index import open_manifest
from asr_lstm.shard_groups import ShardGroups
from asr_lstm.shards import Shards
from asr_lstm.units import CharacterUnits, Normaliser

REAL, SYNTHETIC, EPOCHS = 30, 70, 4
LENGTHS = np.random.default_rng(1).uniform(1, 15, REAL + SYNTHETIC)


def make_sampler(seed: int = 5, **options: Any) -> EpochSampler:
    synthetic = np.arange(REAL + SYNTHETIC) >= REAL
    fading = Fading(synthetic, EPOCHS, seed)
    return EpochSampler(LENGTHS, max_seconds=60.0, seed=seed, fading=fading, **options)


def heard(plan: list[list[int]]) -> list[int]:
    return sorted(itertools.chain(*plan))


def test_the_share_falls_evenly_to_none_and_no_recording_is_ever_missing() -> None:
    sampler = make_sampler()
    counts = []
    for epoch in range(EPOCHS + 3):
        rows = heard(sampler.plan(epoch))
        assert len(set(rows)) == len(rows), "none is heard twice in an epoch"
        assert rows[:REAL] == list(range(REAL))
        counts.append(len(rows) - REAL)
    assert counts == [70, 52, 35, 18, 0, 0, 0]


def test_each_epoch_draws_anew_by_the_seed() -> None:
    draws = [set(heard(make_sampler().plan(epoch))) for epoch in (1, 2, 3)]
    assert not draws[1] <= draws[0]
    assert not draws[2] <= draws[1]
    assert set(heard(make_sampler().plan(2))) == draws[1]
    assert set(heard(make_sampler(seed=6).plan(2))) != draws[1]
    # By chance alone: of 300 runs each synthetic utterance is heard in about half where the share is a half.
    runs = [heard(make_sampler(seed=seed).plan(2)) for seed in range(300)]
    times = np.bincount(np.concatenate(runs), minlength=REAL + SYNTHETIC)[REAL:]
    assert 110 < times.min() <= times.max() < 190


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_plan_and_count_its_updates(world: int) -> None:
    for epoch in range(EPOCHS + 1):
        whole = make_sampler(group=2 * world)
        plan = whole.plan(epoch)
        assert whole.updates(epoch) == -(-len(plan) // (2 * world))
        shares = [make_sampler(group=2 * world, rank=rank, world=world) for rank in range(world)]
        for share in shares:
            share.load_state_dict({"epoch": epoch, "position": 0})
        rounds = zip(*(list(share) for share in shares), strict=True)
        dealt = [[draw.index for draw in batch] for round_ in rounds for batch in round_]
        assert dealt[: len(plan)] == plan
        assert not any(dealt[len(plan) :])


def test_a_saved_place_goes_on_with_the_rest_of_the_epoch() -> None:
    sampler = make_sampler()
    sampler.next_epoch()
    whole = list(sampler)
    for _ in range(3):
        sampler.consume()
    again = make_sampler()
    again.load_state_dict(sampler.state_dict())
    assert list(again) == whole[3:] != []


def test_the_shortest_come_first_of_those_that_are_heard() -> None:
    sampler = make_sampler(shortest_first=2.0)
    longest = [max(LENGTHS[batch]) for batch in sampler.plan(1)]
    assert np.corrcoef(longest, np.arange(len(longest)))[0, 1] > 0.9


def rows() -> list[Utterance]:
    """Recordings, and after them as many that are marked."""
    marked = [replace(row, extra={"synthetic": True}) for row in stage.utterances(40, seed=3)]
    return [*stage.utterances(40, seed=1), *marked]


def test_rows_are_known_in_a_list_and_in_a_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path / "mixed.jsonl", rows())
    for train in (rows(), open_manifest(tmp_path / "mixed.jsonl", Normaliser())):
        assert fade_synthetic(train, epochs=2, seed=1).synthetic.tolist() == [False] * 40 + [True] * 40


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.how: .*no recordings; say mix"):
        fade_synthetic(rows()[40:], epochs=2, seed=1)
    shards = ShardGroups(Shards(np.zeros(REAL + SYNTHETIC, np.int32), [Path("a.tar")]), 1, 5)
    with pytest.raises(ValueError, match="shards and fading"):
        make_sampler(shards=shards)


def fading_data() -> SpeechData:
    """What `fading_recipe` trains on."""
    recipe = fading_recipe()
    return SpeechData(
        rows(), rows()[:1], CharacterUnits("abc"), stage.pulses,
        config=recipe.data, augment=None, seed=recipe.seed, fade=2,
    )  # fmt: skip


def test_updates_of_a_long_epoch_that_fades_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COUNT_EACH_EPOCH", 10)
    data = fading_data()
    plans = [len(data.sampler.plan(epoch)) for epoch in range(4)]
    assert data.total_updates(4) == sum(plans) < 4 * plans[0]


def fading_recipe(**training: Any) -> Recipe:
    return replace(stage.recipe(**training), bootstrap=BootstrapConfig(hours=1.0, how="fade", epochs=2))


def run(output: Path, recipe: Recipe) -> int:
    """Train; returns how often it was gone on with."""
    outcome = fit(
        recipe, train=rows(), dev=stage.utterances(4, seed=2), load=stage.pulses, output=output,
        key="key", settings={}, console=Console(quiet=True),
    )  # fmt: skip
    return outcome.resumed


def test_training_hears_what_is_planned_and_counts_its_updates(tmp_path: Path) -> None:
    task, data, preflight = set_up.set_up(
        fading_recipe(), train=rows(), dev=stage.utterances(4, seed=2), load=stage.pulses, logs=tmp_path
    )
    assert len(preflight.kept) == 80
    diary = small.train(task, data, max_epochs=3)
    recordings = list(range(40))
    assert [len(epoch) for epoch in diary.train] == [80, 60, 40]
    assert all(set(recordings) <= set(epoch) for epoch in diary.train)
    assert sorted(diary.train[2]) == recordings
    assert len(diary.losses) == task.global_step == task.total_updates


def test_a_run_stopped_while_it_fades_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(whole, fading_recipe()) == 0
    often = fading_recipe(checkpoint_minutes=0.0)
    first, second = (len(fading_data().sampler.plan(epoch)) for epoch in (0, 1))
    with monkeypatch.context() as patch:
        stage.at_batch(patch, first + 3, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(TrainingInterrupted):
            run(cut, often)
    state = CheckpointFolder(cut / "checkpoints" / "key").latest().state  # type: ignore[union-attr]
    assert state.epoch == 1
    assert 0 < state.position < second
    assert run(cut, often) == 1
    assert stage.same(whole, cut)
