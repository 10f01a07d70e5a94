"""Files that vanish and numbers that are none do not end a training, unless they are many."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import small_training as small
import torch
from lightning.pytorch.callbacks import Callback

from asr_lstm.corpora.validate import Dropped
from asr_lstm.errors import DataError
from asr_lstm.faults import FEW, NonFinite, UnreadableFiles, to_blame
from asr_lstm.manifest import Utterance


def lacking(*names: str) -> list[Dropped]:
    return [Dropped(name, Path(f"{name}.wav"), f"{name}.wav: gone") for name in names]


class Poisoned:
    """`pulses`, but not a number for some utterances."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def __call__(self, utterance: Utterance) -> np.ndarray:
        return small.pulses(utterance) * (np.float32(math.nan) if utterance.id in self.ids else 1)


class StopOnFault(Callback):
    """As the checkpoint's callback does, without a checkpoint."""

    def on_train_batch_end(self, trainer: object, pl_module: small.CTCTraining, *args: object) -> None:
        if pl_module.fault is not None:
            raise pl_module.fault


def test_a_few_are_listed_once_and_forgiven(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = UnreadableFiles(tmp_path / "unreadable.tsv", tolerate=0.0)
    for _ in range(3):
        for number in range(FEW):
            assert files.count(1, lacking(f"u{number}"), size=100) is None
    assert len(caplog.records) == 1
    assert "u0.wav: gone" in caplog.text
    assert "unreadable.tsv" in caplog.text
    rows = (tmp_path / "unreadable.tsv").read_text().splitlines()
    assert rows[0] == "id\tpath\treason"
    assert [row.split("\t")[0] for row in rows[1:]] == [f"u{number}" for number in range(FEW)]
    error = files.count(1, lacking("one more"), size=100)
    assert isinstance(error, DataError)
    assert "one more.wav: gone" in str(error)
    assert "unreadable.tsv" in str(error)


def test_the_share_is_of_what_was_drawn_and_of_no_more_than_there_is() -> None:
    files = UnreadableFiles(None, tolerate=0.1)
    names = [f"u{number}" for number in range(12)]
    assert files.count(200, lacking(*names[:10]), size=10_000) is None  # 10 of 200
    assert UnreadableFiles(None, tolerate=0.1).count(50, lacking(*names[:6]), size=10_000) is not None
    assert files.count(1000, lacking(*names), size=100) is not None  # 12 of 100, drawn twelve times


def test_a_list_goes_on_but_what_was_mended_is_forgiven() -> None:
    files = UnreadableFiles(None, tolerate=0.0)
    assert files.count(10, lacking(*"abcdefg"), size=10) is not None
    again = UnreadableFiles(None, tolerate=0.0)
    again.load_state_dict(files.state_dict())
    assert again.count(10, lacking("h"), size=10) is None
    assert sorted(item.id for item in again.listed.values()) == list("abcdefgh")


@pytest.mark.parametrize("workers", [0, 1])
def test_training_leaves_out_what_it_cannot_read(tmp_path: Path, workers: int) -> None:
    lost = {small.TRAIN[3].id, small.TRAIN[8].id, small.DEV[2].id}
    path = tmp_path / "unreadable.tsv"
    task, data = small.make(load=small.Lacking(*lost), workers=workers, unreadable=path)
    diary = small.train(task, data, StopOnFault())
    assert sorted(diary.train[0]) == [index for index in range(41) if index not in (3, 8)]
    assert sorted(diary.dev[0]) == [index for index in range(11) if index != 2]
    assert {row.split("\t")[0] for row in path.read_text().splitlines()[1:]} == lost
    assert all(map(math.isfinite, diary.losses))


def test_batches_without_one_utterance_are_passed_over() -> None:
    task, data = small.make(tolerate_share=1.0)
    gone = data.sampler.plan(0)[1]
    data.train_set.load = small.Lacking(*(small.TRAIN[index].id for index in gone))
    diary = small.train(task, data, StopOnFault())
    assert sorted(diary.train[0]) == [index for index in range(41) if index not in gone]
    assert task.global_step == len(diary.losses) - 1 - sum(
        set(batch) <= set(gone) for batch in data.sampler.plan(1)
    )


def test_too_many_end_training_and_say_so(tmp_path: Path) -> None:
    lost = [utterance.id for utterance in small.TRAIN[:20]]
    task, data = small.make(load=small.Lacking(*lost), unreadable=tmp_path / "unreadable.tsv")
    with pytest.raises(DataError, match=r"cannot be read any more.*unreadable\.tsv.*tolerate_share"):
        small.train(task, data, StopOnFault())


def test_without_any_dev_there_is_nothing_to_judge_by() -> None:
    task, data = small.make(load=small.Lacking(*(utterance.id for utterance in small.DEV)))
    with pytest.raises(DataError, match="dev"):
        small.train(task, data)


@pytest.mark.parametrize("options", [{}, {"errors": 0.9, "errors_from": 0.0}], ids=["ctc", "expected_errors"])
def test_an_utterance_that_is_not_a_number_costs_its_update_and_is_named(
    caplog: pytest.LogCaptureFixture, options: dict[str, float]
) -> None:
    bad = small.TRAIN[6].id
    task, data = small.make(load=Poisoned(bad), **options)
    diary = small.train(task, data, StopOnFault())
    assert sum(not math.isfinite(loss) for loss in diary.losses) == small.EPOCHS
    assert task.global_step == len(diary.losses) - small.EPOCHS
    assert bool(torch.isfinite(small.weights(task)).all())
    lines = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert len(lines) == small.EPOCHS
    assert all(line.endswith(f"not finite: {bad}") for line in lines)


def test_many_in_a_row_end_training() -> None:
    task, data = small.make(load=Poisoned(*(row.id for row in small.TRAIN)), stop_after_nonfinite=3)
    before = small.weights(task)
    with pytest.raises(DataError, match="3 updates in a row"):
        small.train(task, data, StopOnFault())
    assert torch.equal(small.weights(task), before)


def test_a_sound_update_ends_a_row() -> None:
    numbers = NonFinite(2)
    assert numbers.skipped(["a"], update=1) is None
    numbers.sound()
    assert numbers.skipped(["b"], update=3) is None
    assert numbers.skipped([], update=4) is not None
    assert numbers.total == 3


def test_blame_falls_on_losses_first_then_on_whoever_made_the_gradient() -> None:
    indices, good = torch.tensor([4, 7, 9]), [torch.ones(2)]
    assert to_blame(indices, torch.tensor([1.0, math.inf, math.nan]), good) == [7, 9]
    assert to_blame(indices, torch.ones(3), [torch.tensor([math.nan])]) == [4, 7, 9]
    assert to_blame(indices, torch.ones(3), good) == []
