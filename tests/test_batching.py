from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from asr_lstm.batching import Draw, EpochSampler, Example, collate, draw_seed, pad_inputs


def speech_durations(count: int, *, seed: int = 0) -> list[float]:
    """Lengths as in read speech: most of 10 to 16 s, some of 2."""
    draws = np.random.default_rng(seed).beta(4, 2, size=count) * 15 + 1.5
    return [float(value) for value in draws]


def make_sampler(seed: int = 5, **options: int) -> EpochSampler:
    return EpochSampler(speech_durations(100), max_seconds=60.0, seed=seed, **options)


def test_a_saved_place_goes_on_with_the_rest_of_the_epoch() -> None:
    sampler = make_sampler()
    sampler.next_epoch()
    whole = list(sampler)
    assert len(whole) > 10
    iterator = iter(sampler)
    for _ in range(7):  # a loader draws ahead of what training has used
        next(iterator)
    for _ in range(4):
        sampler.consume()
    state = sampler.state_dict()

    again = make_sampler()
    again.load_state_dict(state)
    assert list(again) == whole[4:]
    again.next_epoch()
    fresh = make_sampler()
    fresh.epoch = 2
    assert list(again) == list(fresh) != whole


def test_draws_of_an_utterance_depend_on_run_epoch_and_index_alone() -> None:
    sampler = make_sampler()
    draws = {draw.index: draw.seed for batch in sampler for draw in batch}
    assert sorted(draws) == list(range(100))
    assert draws == {index: draw_seed(5, 0, index) for index in range(100)}
    sampler.position = 3
    assert {draw.index: draw.seed for batch in sampler for draw in batch}.items() <= draws.items()

    seeds = {draw_seed(run, epoch, index) for run in range(5) for epoch in range(5) for index in range(40)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_first_epochs_may_begin_with_the_shortest() -> None:
    sampler = make_sampler(shortest_first=1)
    durations = speech_durations(100)

    def lengths() -> list[float]:
        return [max(durations[draw.index] for draw in batch) for batch in sampler]

    first = lengths()
    assert first[0] < np.median(first) < first[-1]
    assert np.corrcoef(first, np.arange(len(first)))[0, 1] > 0.9
    sampler.next_epoch()
    assert abs(np.corrcoef(lengths(), np.arange(len(lengths())))[0, 1]) < 0.6


def test_it_drives_a_data_loader() -> None:
    sampler = make_sampler()

    class Echo(torch.utils.data.Dataset[Draw]):
        def __getitem__(self, draw: Draw) -> Draw:
            return draw

    loader = DataLoader(Echo(), batch_sampler=sampler, collate_fn=list)
    assert list(loader) == list(sampler)


def test_collate_pads_with_zeros_and_keeps_every_length() -> None:
    examples = [
        Example(torch.tensor([1.0, 2.0, 3.0]), [4, 5], Draw(7, 2**62), [8, 9]),
        Example(torch.tensor([9.0]), [], Draw(0, 1)),
        Example(torch.tensor([6.0, 6.0]), [3], Draw(2, 3), [7]),
    ]
    batch = collate(examples)
    assert batch.inputs.tolist() == [[1, 2, 3], [9, 0, 0], [6, 6, 0]]
    assert batch.lengths.tolist() == [3, 1, 2]
    assert batch.targets.tolist() == [4, 5, 3]
    assert batch.target_lengths.tolist() == [2, 0, 1]
    assert batch.phones.tolist() == [8, 9, 7]
    assert batch.phone_lengths.tolist() == [2, 0, 1]
    assert batch.seeds.tolist() == [2**62, 1, 3]
    assert batch.indices.tolist() == [7, 0, 2]
    for name in ("lengths", "targets", "target_lengths", "phones", "phone_lengths", "seeds", "indices"):
        assert getattr(batch, name).dtype == torch.long, name


def test_collate_of_empty_transcripts_alone_has_targets_of_integers() -> None:
    batch = collate([Example(torch.zeros(5), [], Draw(0, 0))])
    assert batch.targets.shape == (0,)
    assert batch.targets.dtype == torch.long


def test_frames_are_padded_in_time_alone() -> None:
    inputs, lengths = pad_inputs([torch.ones(2, 3), torch.ones(4, 3)])
    assert inputs.shape == (2, 4, 3)
    assert lengths.tolist() == [2, 4]
    assert inputs.sum((1, 2)).tolist() == [6, 12]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_a_plan_evenly(world: int) -> None:
    whole = make_sampler(group=2 * world)
    plan = whole.plan(0)
    shares = [list(make_sampler(group=2 * world, rank=rank, world=world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    dealt = [[draw.index for draw in batch] for round_ in zip(*shares, strict=True) for batch in round_]
    assert dealt[: len(plan)] == plan
    assert not any(dealt[len(plan) :])
    assert whole.updates(0) == -(-len(plan) // (2 * world))


def test_a_place_is_that_of_all_processes_together() -> None:
    sampler = make_sampler(group=4, rank=1, world=2)
    ends = []
    for _ in range(4):
        sampler.consume()
        ends.append(sampler.at_update)
    assert ends == [False, True, False, True]
    again = make_sampler(group=4, rank=1, world=2)
    again.load_state_dict(sampler.state_dict())
    assert list(again) == list(make_sampler(group=4, rank=1, world=2))[4:]
