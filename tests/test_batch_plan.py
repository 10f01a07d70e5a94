"""Every utterance in one batch of an epoch, in an order that seed and epoch fix."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from test_batching import speech_durations

from asr_lstm.batch_plan import LENGTH_JITTER, plan_batches


def padded(batch: list[int], durations: list[float]) -> float:
    return len(batch) * max(durations[index] for index in batch)


@pytest.mark.parametrize("shortest_first", [False, True])
def test_any_list_is_shared_out_once_within_the_limit(shortest_first: bool) -> None:
    draw = random.Random(0)
    for trial in range(200):
        durations = [draw.choice([0.1, 1.0, draw.uniform(0.05, 30.0)]) for _ in range(draw.randrange(60))]
        limit = draw.uniform(1.0, 100.0)
        batches = plan_batches(
            durations, max_seconds=limit, seed=trial, epoch=trial % 3, shortest_first=shortest_first
        )
        assert sorted(index for batch in batches for index in batch) == list(range(len(durations)))
        for batch in batches:
            assert len(batch) == 1 or padded(batch, durations) <= limit
        assert all(batches)


def test_batches_are_full_where_lengths_allow_it() -> None:
    sizes = sorted(len(batch) for batch in plan_batches([2.0] * 10, max_seconds=8.0, seed=0, epoch=0))
    assert sizes == [2, 4, 4]


def test_what_is_longer_than_the_limit_stands_alone() -> None:
    batches = plan_batches([1.0, 50.0, 1.0, 60.0, 1.0], max_seconds=10.0, seed=0, epoch=0)
    assert sorted(map(sorted, batches)) == [[0, 2, 4], [1], [3]]


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    durations = speech_durations(200)
    plans = {
        (seed, epoch): plan_batches(durations, max_seconds=120.0, seed=seed, epoch=epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    for (seed, epoch), plan in plans.items():
        random.seed(epoch)  # the global generators have no say
        np.random.seed(seed)
        assert plan_batches(durations, max_seconds=120.0, seed=seed, epoch=epoch) == plan
    companies = {frozenset(map(frozenset, plan)) for plan in plans.values()}
    assert len(companies) == 9, "utterances must meet other company in each epoch"


def test_shortest_first_goes_up_as_far_as_the_jitter_lets_it() -> None:
    durations = speech_durations(500)
    batches = plan_batches(durations, max_seconds=100.0, seed=0, epoch=0, shortest_first=True)
    slack = (1 + LENGTH_JITTER) / (1 - LENGTH_JITTER)
    for before, after in itertools.pairwise(batches):
        assert max(durations[i] for i in before) <= min(durations[i] for i in after) * slack
    shuffled = plan_batches(durations, max_seconds=100.0, seed=0, epoch=0)
    assert shuffled != batches
    assert sorted(shuffled) == sorted(batches)


def test_little_padding_in_speech() -> None:
    durations = speech_durations(3000)
    batches = plan_batches(durations, max_seconds=200.0, seed=1, epoch=0)
    share = 1 - sum(durations) / sum(padded(batch, durations) for batch in batches)
    assert share < 0.1


def test_no_utterances_no_batches() -> None:
    assert plan_batches([], max_seconds=10.0, seed=0, epoch=0) == []


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_an_impossible_limit_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=r"^max_seconds must be above 0"):
        plan_batches([1.0], max_seconds=limit, seed=0, epoch=0)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_batches_of_an_update_are_of_like_length_and_nothing_is_lost(size: int) -> None:
    durations = speech_durations(500)
    small = set()
    for epoch in range(6):
        plan = plan_batches(durations, max_seconds=60.0, seed=3, epoch=epoch, group=size)
        assert sorted(index for batch in plan for index in batch) == list(range(500))
        groups = [plan[start : start + size] for start in range(0, len(plan), size)]
        longest = [sorted(max(durations[i] for i in batch) for batch in group) for group in groups]
        spread = [values[-1] / values[0] for values in longest]
        assert sorted(spread)[len(spread) // 2] < 1.25
        if len(plan) % size:
            small.add(round(longest[-1][0]))
    assert len(small) != 1, "the smaller update must not always be of the same lengths"
