from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from asr_lstm.augment import change_speed
from asr_lstm.corpora.validate import NO_TEXT
from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig, make_front_end
from asr_lstm.manifest import Utterance, write_manifest
from asr_lstm.manifest_index import ManifestIndex, open_manifest
from asr_lstm.model import EncoderConfig, Recogniser, make_encoder
from asr_lstm.preflight import (
    NO_DURATION,
    TOO_SHORT,
    Preflight,
    check_training_data,
    count_parameters,
    training_memory,
)
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits(" 'abcdefghijklmnopqrstuvwxyz")
FEATURES = FeatureConfig()
ENCODER = EncoderConfig()


def utterance(text: str, duration: float, *, id: str = "u", speaker: str = "") -> Utterance:
    return Utterance(Path(f"{id}.wav"), text, duration, speaker=speaker, id=id)


def check(utterances: list[Utterance], **options: object) -> Preflight:
    defaults = {
        "units": UNITS, "features": FEATURES, "encoder": ENCODER, "speed": 0.0, "batch_seconds": 60.0,
    }  # fmt: skip
    return check_training_data(utterances, **(defaults | options))  # type: ignore[arg-type]


def loss_is_finite(text: str, frames: int) -> bool:
    """Torch's own judgement of whether CTC fits a transcript into so many frames."""
    target = torch.tensor(UNITS.encode(text))
    log_probabilities = torch.randn(frames, 1, len(UNITS)).log_softmax(-1)
    loss = functional.ctc_loss(
        log_probabilities, target[None], torch.tensor([frames]), torch.tensor([len(target)])
    )
    return bool(torch.isfinite(loss))


@pytest.mark.parametrize("reduction", [(), (2,), (2, 2)])
@pytest.mark.parametrize("text", ["abcd", "aaaa", "aabb", "hello all"])
def test_rows_are_dropped_exactly_where_torchs_loss_is_infinite(
    text: str, reduction: tuple[int, ...]
) -> None:
    encoder = EncoderConfig(layers=3, hidden=8, time_reduction=reduction)
    front_end, layers = make_front_end(FEATURES), make_encoder(80, encoder)
    seen = set()
    for samples in range(160, 8000 * encoder.time_factor, 160):
        frames = int(layers.output_lengths(front_end.output_lengths(torch.tensor([samples]))))
        kept = {row.id for row in check([utterance(text, samples / 16000), KEPT], encoder=encoder).kept}
        assert ("u" in kept) == loss_is_finite(text, frames)
        seen.add("u" in kept)
    assert seen == {True, False}


KEPT = utterance("a good row", 5.0, id="kept")


def test_the_fastest_speed_decides() -> None:
    # 8 units without repeats need 8 frames of 30 ms. What the augmentation itself makes of the audio is the judge.
    text, speed = "abcdefgh", 0.25
    seconds = 0.25
    faster = change_speed(np.zeros(round(16000 * seconds), np.float32), factor=1 + speed)
    frames = int(make_front_end(FEATURES).output_lengths(torch.tensor([len(faster)])))
    assert not loss_is_finite(text, frames)
    row = utterance(text, seconds)
    assert row in check([row, KEPT], speed=0.0).kept
    (dropped,) = check([row, KEPT], speed=speed).dropped
    assert dropped.reason.startswith(
        f"{TOO_SHORT}: 0.25 s give 7 frames at 1.25 times the speed, CTC needs 8"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (utterance("", 5.0), NO_TEXT),
        (utterance(" ?! ", 5.0), NO_TEXT),
        (utterance("hello", 0.0), NO_DURATION),
        (utterance("hello" * 20, 1.0), TOO_SHORT),
    ],
)
def test_what_training_cannot_use_is_dropped_with_its_reason(row: Utterance, reason: str) -> None:
    preflight = check([row, KEPT])
    assert preflight.kept == [KEPT]
    (dropped,) = preflight.dropped
    assert (dropped.id, dropped.path) == (row.id, row.path)
    assert dropped.reason.startswith(f"{reason}: ")
    assert f"left out: 1, {reason} (u)" in preflight.summary()


def test_unknown_characters_are_refused_in_one_line_with_count_and_rows() -> None:
    rows = [utterance("naïve", 5.0, id=f"bad{index}") for index in range(5)]
    with pytest.raises(DataError) as caught:
        check([KEPT, *rows], manifest=Path("train.jsonl"))
    message = str(caught.value)
    assert message.startswith(
        "train.jsonl: the units lack characters of 5 of 6 transcripts (row 2, bad0: 'ï' (U+00EF);"
    )
    assert "row 4, bad2" in message
    assert "bad3" not in message
    assert "and 2 more" in message
    assert "\n" not in message
    assert "add the characters to the units" in message


@pytest.mark.parametrize("rows", [[], [utterance("hello", 0.0)]])
def test_nothing_to_train_on_is_an_error_that_says_why(rows: list[Utterance]) -> None:
    with pytest.raises(DataError, match=r"^train\.jsonl: no utterance can be used \(.+\); correct [^\n]+$"):
        check(rows, manifest="train.jsonl")


def test_figures() -> None:
    rows = [utterance("aab b", 3600.0, id="one", speaker="x"), utterance("ab", 1800.0, id="two", speaker="x")]
    figures = check([*rows, utterance("", 100.0, id="empty", speaker="y")]).figures
    assert (figures.utterances, figures.hours, figures.speakers) == (2, 1.5, 1)
    assert (figures.shortest, figures.longest) == (1800.0, 3600.0)
    counts = figures.unit_counts
    assert (counts["a"], counts["b"], counts["<space>"], counts["z"]) == (3, 3, 1, 0)
    assert len(counts) == len(UNITS) - 1


def test_rare_units_are_named() -> None:
    units = CharacterUnits.from_texts(["abc"])
    rows = [utterance("aaaa b", 9.0, id=str(index)) for index in range(4)]
    rows = [replace(row, text=row.text.replace(" ", "")) for row in rows]
    (warning,) = check(rows, units=units).warnings
    assert warning.startswith("2 units occur fewer than 5 times and will hardly be learned ('b' 4, 'c' 0)")


def test_a_wrong_transcript_stands_out_and_is_kept() -> None:
    random = np.random.default_rng(0)
    rows = [utterance("a" * random.integers(24, 36), 6.0, id=f"usual{index}") for index in range(40)]
    odd = [utterance("a" * 90, 6.0, id="dense"), utterance("a", 6.0, id="sparse")]
    preflight = check([*rows, *odd], units=CharacterUnits.from_texts(["a"]))
    assert preflight.figures.outliers == [("dense", 15.0), ("sparse", pytest.approx(1 / 6))]
    assert {"dense", "sparse"} <= {row.id for row in preflight.kept}
    assert any("(dense 15.0, sparse 0.2)" in warning for warning in preflight.warnings)


def test_equal_rows_have_no_outliers() -> None:
    assert check([utterance("abc", 5.0, id=str(index)) for index in range(20)]).figures.outliers == []


def test_an_utterance_longer_than_a_batch_is_said() -> None:
    long = utterance("a", 90.0)
    assert any("90.0 s" in warning for warning in check([long]).warnings)
    assert not any("90.0 s" in warning for warning in check([long], batch_seconds=100.0).warnings)


def test_memory_beyond_the_machine_is_said() -> None:
    warnings = check([utterance("a", 1e7)]).warnings
    assert any("GiB and this machine has" in warning for warning in warnings)


@pytest.mark.parametrize(
    "encoder",
    [
        EncoderConfig(hidden=8),
        EncoderConfig(layers=1, hidden=7),
        EncoderConfig(layers=2, hidden=9, bidirectional=False, layer_norm=False),
        EncoderConfig(layers=2, hidden=5, convolution=3),
        EncoderConfig(layers=2, hidden=5, convolution=3, convolution_blocks=2),
    ],
)
def test_parameters_are_those_of_the_model(encoder: EncoderConfig) -> None:
    features = FeatureConfig(mels=20, stack=2)
    model = Recogniser(features, encoder, units=11)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(40, encoder, units=11, stack=2) == expected


def test_memory_of_a_small_case_by_hand() -> None:
    # 1 s is 101 frames, 51 pairs of 8 dims; D = 2, H = 3, 5 units. The front end takes 16000 / 160 transforms of 512
    # points, and far more than the model.
    front_end = make_front_end(FeatureConfig(mels=4, stack=2))
    encoder = EncoderConfig(layers=1, hidden=3, layer_norm=False)
    parameters = 2 * 4 * 3 * (8 + 3 + 1) + (6 + 1) * 5
    hearing = 100 * 12 * 512 + 8 * 16000
    kept, once = 4 * (8 + 6 * 6), 8 * 6 + 16 * 5
    expected = hearing + 0.5 * (16 * parameters + 51 * (2 * kept + once))
    assert training_memory(front_end, encoder, units=5, seconds=1.0) == expected
    kept, back = 2 * 8 + 16 * 6, 6 * 8 + 14 * 6
    expected = hearing + 0.5 * (20 * parameters + 51 * (kept + back + once))
    assert training_memory(front_end, encoder, units=5, seconds=1.0, bfloat16=True) == expected


def test_memory_of_a_pyramid_by_hand() -> None:
    """8 frames of 2 dims, then 4 of 2 * 2 * 3, then 2 of those."""
    front_end = make_front_end(FeatureConfig(kind="frames", dims=2, hop_ms=125.0, stack=1))
    encoder = EncoderConfig(layers=3, hidden=3, layer_norm=False, time_reduction=(2, 2))
    first, later = 4 * (2 + 36), 4 * (12 + 36)
    peak = max(8 * 2 * first, 8 * first + 4 * 2 * later, 8 * first + 4 * later + 2 * 2 * later)
    expected = peak + 16 * count_parameters(2, encoder, units=5) + 2 * (8 * 6 + 16 * 5)
    assert training_memory(front_end, encoder, units=5, seconds=1.0) == expected


def test_memory_of_layers_after_the_last_reduction_by_hand() -> None:
    """8 frames of 2 dims, then 4 of 2 * 2 * 3, then 4 of 2 * 3."""
    front_end = make_front_end(FeatureConfig(kind="frames", dims=2, hop_ms=125.0, stack=1))
    encoder = EncoderConfig(layers=3, hidden=3, layer_norm=False, time_reduction=(2,))
    first, second, third = 4 * (2 + 36), 4 * (12 + 36), 4 * (6 + 36)
    peak = max(8 * 2 * first, 8 * first + 4 * 2 * second, 8 * first + 4 * second + 4 * 2 * third)
    expected = peak + 16 * count_parameters(2, encoder, units=5) + 4 * (8 * 6 + 16 * 5)
    assert training_memory(front_end, encoder, units=5, seconds=1.0) == expected


def test_memory_of_a_convolution_and_of_two_views_by_hand() -> None:
    """8 frames of 2 times 6 dims, twice over; between its layers 2 channels of 3 bands, then of 2, and in a block."""
    front_end = make_front_end(FeatureConfig(kind="frames", dims=6, hop_ms=62.5, stack=2))
    encoder = EncoderConfig(layers=1, hidden=3, layer_norm=False, convolution=2)
    parameters = count_parameters(12, encoder, units=5, stack=2)
    kept, layer, once = 12 + 2 * 3 + 2 * 2 + 2 * 2, 2 * 2 + 6 * 6, 8 * 6 + 16 * 5
    expected = 16 * parameters + 2 * 8 * (4 * kept + 2 * 4 * layer + once)
    assert training_memory(front_end, encoder, units=5, seconds=1.0, views=2) == expected
    deeper = replace(encoder, convolution_blocks=1)
    expected += 16 * (2 * 2 + 2 * (2 * 2 * 9 + 2)) + 2 * 8 * 20 * 2 * 2
    assert training_memory(front_end, deeper, units=5, seconds=1.0, views=2) == expected


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "options",
    [
        "{'time_reduction': ()}",
        "{'time_reduction': (2, 2)}",
        "{'convolution': 16}",
        "{'convolution': 16, 'convolution_blocks': 4}",
    ],
)
def test_memory_is_within_a_fifth_of_what_a_training_process_takes(precision: str, options: str) -> None:
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_of_training.py")), precision, options],
        capture_output=True,
        text=True,
        check=True,
    )
    measured, estimate = map(float, run.stdout.split())
    assert 0.8 < estimate / measured < 1.2


def test_memory_is_that_of_the_longest_batch() -> None:
    def memory(rows: list[Utterance], **options: float) -> float:
        return check(rows, **options).figures.memory_gib

    ten = [utterance("a", 10.0, id=str(index)) for index in range(10)]
    assert memory(ten, batch_seconds=60.0) == memory(ten * 2, batch_seconds=60.0)
    assert memory(ten[:2], batch_seconds=60.0) == memory(ten[:2], batch_seconds=20.0)
    assert memory([utterance("a", 90.0)], batch_seconds=60.0) > memory(ten, batch_seconds=60.0)
    assert memory(ten, speed=0.1) > memory(ten, speed=0.0)


def test_frames_from_a_loader_come_at_the_hop() -> None:
    features = FeatureConfig(kind="frames", dims=3, hop_ms=100.0, stack=1)
    rows = [utterance("abcdefghij", 1.0, id="ten"), utterance("abcdefghijk", 1.0, id="eleven")]
    preflight = check(rows, features=features)
    assert [row.id for row in preflight.kept] == ["ten"]
    assert [row.id for row in preflight.dropped] == ["eleven"]


def test_the_summary_is_short_plain_lines() -> None:
    rows = [utterance("the quick brown fox", 5.0, id=str(index), speaker="me") for index in range(400)]
    lines = check(rows).summary().splitlines()
    assert lines[0] == "training data: 0.56 h, 400 utterances of 5.0 to 5.0 s, speakers: 1"
    assert lines[2].startswith("model: 4.19 million parameters; the longest batch needs about 0.2")
    assert len(lines) == 4
    assert lines[3].startswith("warning: 12 units occur fewer than 5 times")


def test_an_index_is_judged_as_the_list_of_its_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    letters = list(" abcdefgh")
    rows = [
        utterance("".join(random.choice(letters, size=row % 60)), float(random.uniform(0, 4)), id=f"r{row}")
        for row in range(300)
    ]
    write_manifest(tmp_path / "train.jsonl", rows)
    index = open_manifest(tmp_path / "train.jsonl", UNITS.normaliser)
    listed, indexed = check(list(index)), check(index)  # type: ignore[arg-type]
    assert isinstance(indexed.kept, ManifestIndex)
    assert {item.reason.partition(":")[0] for item in listed.dropped} == {NO_TEXT, TOO_SHORT}
    assert list(indexed.kept) == list(listed.kept)
    assert (indexed.dropped, indexed.figures, indexed.warnings) == (
        listed.dropped,
        listed.figures,
        listed.warnings,
    )
    assert indexed.summary() == listed.summary()
