from __future__ import annotations

from pathlib import Path

import pytest

from asr_lstm.decoding.calibration import Calibration
from asr_lstm.decoding.tuned import TUNED_NAME, Tuned, load_tuned, save_tuned
from asr_lstm.errors import ConfigError

TUNED = Tuned(
    weights={
        "beam+ngram": {"alpha": 0.7, "beta": -0.5},
        "beam+ngram+rescore": {"lstm_weight": 0.3},
        "beam+hotwords+rescore": {"lstm_weight": 0.9},
        "beam+ngram+lstm": {"alpha": 0.4, "beta": -0.5, "lstm_weight": 0.2},
    },
    calibrations={"greedy": Calibration((1.5,), -0.25), "beam+ngram": Calibration((0.5, 2.0), 0.0)},
    source={"manifest": "dev.jsonl"},
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_tuned(tmp_path, TUNED)
    assert load_tuned(tmp_path) == TUNED


def test_nothing_tuned_leaves_no_file(tmp_path: Path) -> None:
    assert load_tuned(tmp_path) == Tuned()
    save_tuned(tmp_path, TUNED)
    save_tuned(tmp_path, Tuned())
    assert list(tmp_path.iterdir()) == []
    assert load_tuned(tmp_path) == Tuned()


@pytest.mark.parametrize(
    ("decoder", "weights"),
    [
        ("beam+ngram", {"alpha": 0.7, "beta": -0.5}),
        ("beam+ngram+hotwords+mc", {"alpha": 0.7, "beta": -0.5}),
        ("beam+ngram+rescore", {"alpha": 0.7, "beta": -0.5, "lstm_weight": 0.3}),
        ("beam+ngram+hotwords+rescore", {"alpha": 0.7, "beta": -0.5, "lstm_weight": 0.3}),
        ("beam+hotwords+rescore", {"lstm_weight": 0.9}),
        ("beam+ngram+lstm", {"alpha": 0.4, "beta": -0.5, "lstm_weight": 0.2}),
        ("beam+lexicon+ngram", {}),
        ("beam", {}),
    ],
)
def test_weights_are_those_of_the_decoder(decoder: str, weights: dict[str, float]) -> None:
    assert TUNED.weights_of(decoder) == weights


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"weights": {"beam": {"alpha": "x"}}, "calibrations": {}}',
        '{"weights": 3, "calibrations": {}}',
        '{"weights": {}, "calibrations": {"greedy": {"weights": [1]}}}',
    ],
)
def test_a_damaged_file_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / TUNED_NAME).write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_tuned(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / TUNED_NAME}: damaged; run `asr-lstm tune` again")
