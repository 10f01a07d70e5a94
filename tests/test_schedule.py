"""Planning by the clock, and seeds of steps; the learning rate is tested with training."""

from __future__ import annotations

import pytest
import torch

from asr_lstm.batching import draw_seed
from asr_lstm.schedule import TrainingConfig, dropout_share, seed_dropout, step_seed, updates_in_time


def plan(updates: int, seconds: float, judging: float | None = 2.0, *, most: int = 1000) -> int:
    return updates_in_time(updates, most=most, seconds=seconds, judging_seconds=judging, budget_seconds=102.0)


def test_the_plan_follows_the_measured_speed() -> None:
    assert plan(0, 0.1) == 1000  # nothing measured yet
    assert plan(20, 10.0) == 200  # 2 a second, and 2 s are kept for judging
    assert plan(20, 5.0) == 400
    assert plan(20, 1.0, most=300) == 300  # the epochs are the most
    assert plan(20, 10.0, None) == int(20 + 86.9 * 2)  # 5 % kept where judging was never measured


def test_time_that_is_over_ends_it() -> None:
    assert plan(150, 100.0) == 150
    assert plan(150, 500.0) == 150
    assert plan(3, 500.0) == 3
    assert plan(0, 500.0) == 1


def test_a_run_at_steady_speed_ends_on_time() -> None:
    updates, seconds, planned = 0, 0.0, 1000
    while updates < planned:
        updates, seconds = updates + 1, seconds + 0.7
        planned = plan(updates, seconds)
    assert 98.0 < seconds <= 100.0


def test_seeds_of_steps_are_all_their_own() -> None:
    seeds = [step_seed(seed, epoch, place) for seed in (1, 2) for epoch in range(3) for place in range(50)]
    seeds += [draw_seed(1, 0, index) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("epochs", "patience", "learning_rate", "gradient_clip")),
        *((name, value) for name in ("final_share", "warmup", "tolerate_share") for value in (-0.1, 1.1)),
        ("weight_decay", -0.1),
        ("average", 1.0),
        ("average", -0.1),
        ("average_best", 0),
        *((name, 0) for name in ("accumulate", "devices", "num_nodes", "stop_after_nonfinite")),
        ("max_minutes", -1.0),
        ("checkpoint_minutes", -1.0),
        ("dropout_epochs", -1),
        ("errors", 1.1),
        ("errors_from", -0.1),
        ("errors_from", 1.0),
        ("intermediate", 1.0),
        ("intermediate", -0.1),
        ("consistency", -0.1),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"training.{name}"):
        TrainingConfig(**{name: value})  # type: ignore[arg-type]


def test_dropout_rises_linearly_and_then_stays() -> None:
    shares = [dropout_share(epoch, rise=50) for epoch in (0, 10, 25, 50, 99)]
    assert shares == [0, 0.2, 0.5, 1, 1]
    assert dropout_share(0, rise=0) == 1


def test_dropout_is_seeded_as_torch_seeds_it() -> None:
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 7, 2**63 - 1):
            seed_dropout(seed)
            drawn = torch.rand(5)
            torch.manual_seed(seed)
            assert torch.equal(drawn, torch.rand(5))
