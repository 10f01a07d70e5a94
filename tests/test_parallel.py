"""Two processes train as one does, and find each other."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small_training as small
import torch
from torch import distributed
from torch.nn import functional

from asr_lstm import parallel
from asr_lstm.batching import collate
from asr_lstm.errors import AsrLstmError, ConfigError
from asr_lstm.schedule import learning_rate_share

LOST = small.TRAIN[5].id


WITH_DROPOUT: list[dict[str, Any]] = [
    {"dropout": 0.2},
    {"dropout": 0.2, "intermediate": 0.3, "consistency": 0.2},
]


@dataclass
class Run:
    """What one process saw of a training."""

    diary: small.Diary
    weights: torch.Tensor
    dev_wer: float
    dev_loss: float


def plain_and_with_dropout(folder: Path) -> None:
    """Train some times and write down what this process saw."""
    torch.set_num_threads(1)
    runs = []
    for options in ({}, *WITH_DROPOUT):
        listed = folder / "unreadable.tsv" if parallel.rank() == 0 else None
        task, data = small.make(load=small.Lacking(LOST), unreadable=listed, **options)
        runs.append(seen(task, data))
    torch.save(runs, folder / f"{parallel.rank()}.pt")


def seen(task: small.CTCTraining, data: small.SpeechData) -> Run:
    diary = small.train(task, data)
    metrics = task.trainer.callback_metrics
    return Run(diary, small.weights(task), float(metrics["dev_wer"]), float(metrics["dev_loss"]))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    job = functools.partial(plain_and_with_dropout, folder)
    with parallel.together(job, devices=2, nodes=1):
        job()
    assert not distributed.is_initialized()
    return folder


@pytest.fixture(scope="module")
def runs(two_processes: Path) -> list[list[Run]]:
    """By process, without dropout and with it."""
    return [torch.load(two_processes / f"{rank}.pt", weights_only=False) for rank in range(2)]


def joint_training() -> tuple[list[float], torch.Tensor]:
    """One process in plain torch, each batch two neighbours of the plan at once: losses and final weights."""
    task, data = small.make(load=small.Lacking(LOST))
    data.sampler.group = 2
    total = sum(-(-len(data.sampler.plan(epoch)) // 2) for epoch in range(small.EPOCHS))
    parameters = list(task.model.parameters())
    decayed = [{"params": [p for p in parameters if p.ndim > 1]}]
    free = [{"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decayed + free, lr=0.02, weight_decay=task.config.weight_decay)
    losses = []
    for _ in range(small.EPOCHS):
        batches = list(data.sampler)
        for first in range(0, len(batches), 2):
            draws = [draw for batch in batches[first : first + 2] for draw in batch]
            batch = collate([data.train_set[draw] for draw in draws])
            logits, lengths = task.model(batch.inputs, batch.lengths)
            log_probabilities = logits.log_softmax(-1).transpose(0, 1)
            summed = functional.ctc_loss(
                log_probabilities, batch.targets, lengths, batch.target_lengths, reduction="sum"
            )
            loss = summed / batch.target_lengths.sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, task.config.gradient_clip)
            share = learning_rate_share(len(losses), total=total, warmup=0.05, final_share=0.01)
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * share
            optimizer.step()
            losses.append(float(loss.detach()))
        data.sampler.next_epoch()
    return losses, small.weights(task)


def test_two_processes_follow_the_loss_of_one_with_the_joint_batch(runs: list[list[Run]]) -> None:
    losses, weights = joint_training()
    assert len(losses) > 8
    for mine in runs:
        assert mine[0].diary.losses == pytest.approx(losses, rel=1e-4)
        assert torch.allclose(mine[0].weights, weights, atol=1e-4)
    assert torch.equal(runs[0][0].weights, runs[1][0].weights)


@pytest.mark.parametrize("which", range(len(WITH_DROPOUT)))
def test_with_dropout_two_processes_are_one_that_gathers_two_batches(
    runs: list[list[Run]], which: int
) -> None:
    task, data = small.make(load=small.Lacking(LOST), accumulate=2, **WITH_DROPOUT[which])
    alone = seen(task, data)
    before, *_, joint = runs[0][: which + 2]
    assert joint.diary.losses == pytest.approx(alone.diary.losses, rel=1e-4)
    assert torch.allclose(joint.weights, alone.weights, atol=1e-4)
    assert joint.diary.losses != pytest.approx(before.diary.losses, rel=1e-2)  # dropout is at work
    for mine in runs:
        assert mine[which + 1].dev_wer == pytest.approx(alone.dev_wer)
        assert mine[which + 1].dev_loss == pytest.approx(alone.dev_loss, rel=1e-3)


def test_each_utterance_is_met_once_an_epoch(runs: list[list[Run]]) -> None:
    first, second = (mine[0].diary for mine in runs)
    readable = [index for index in range(len(small.TRAIN)) if small.TRAIN[index].id != LOST]
    for epoch in range(small.EPOCHS):
        assert sorted(first.train[epoch] + second.train[epoch]) == readable
        assert sorted(first.dev[epoch] + second.dev[epoch]) == list(range(len(small.DEV)))
        seconds = [
            sum(small.TRAIN[index].duration for index in diary.train[epoch]) for diary in (first, second)
        ]
        assert abs(seconds[0] - seconds[1]) < 1.1  # a batch, where their number is odd
    _, data = small.make()
    data.sampler.group = 2
    assert any(len(data.sampler.plan(epoch)) % 2 for epoch in range(small.EPOCHS))


def test_what_any_process_cannot_read_is_listed_once(runs: list[list[Run]], two_processes: Path) -> None:
    rows = (two_processes / "unreadable.tsv").read_text().splitlines()[1:]
    assert len(rows) == 1
    assert rows[0].startswith(f"{LOST}\t")


def test_alone_nothing_is_exchanged() -> None:
    numbers = [torch.ones(2), torch.zeros(3)]
    assert parallel.sum_over_processes(numbers)[0] is numbers[0]
    assert parallel.gather("x") == ["x"]
    assert (parallel.world(), parallel.rank(), parallel.any_process(True)) == (1, 0, True)


def test_several_machines_need_torchrun() -> None:
    with pytest.raises(ConfigError, match="torchrun"), parallel.together(int, devices=1, nodes=2):
        pass


def test_torchrun_must_start_as_many_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(ConfigError, match=r"started 4 .*devices 2"),
        parallel.together(int, devices=2, nodes=1),
    ):
        pass


def test_a_process_that_dies_is_named_and_nothing_hangs() -> None:
    before = dict(os.environ)
    with (
        pytest.raises(AsrLstmError, match="another process of training ended"),
        parallel.together(functools.partial(os._exit, 3), devices=2, nodes=1),
    ):
        parallel.wait_for_all()
    assert not distributed.is_initialized()
    assert dict(os.environ) == before


@pytest.mark.soak
def test_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import functools, pathlib, sys\n"
        "from asr_lstm import parallel\n"
        "import work\n"
        "if parallel.follows():\n"
        "    sys.exit(parallel.follow())\n"
        "for number in range(2):\n"
        "    job = functools.partial(work.note, number)\n"
        "    with parallel.together(job, devices=2, nodes=1):\n"
        "        job()\n"
    )
    (tmp_path / "work.py").write_text(
        "import pathlib\n"
        "from asr_lstm import parallel\n"
        "def note(number):\n"
        "    ranks = parallel.gather(parallel.rank())\n"
        "    pathlib.Path(__file__).with_name(f'{number}-{parallel.rank()}').write_text(str(ranks))\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert {path.name: path.read_text() for path in tmp_path.glob("?-?")} == dict.fromkeys(
        ("0-0", "0-1", "1-0", "1-1"), "[0, 1]"
    )
