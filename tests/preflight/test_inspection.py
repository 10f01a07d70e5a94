"""A clean corpus gives no finding; each planted fault gives its own, at its own place, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.preflight.inspection import Inspection, inspect_corpus
from asr_lstm.shards import shard_command

Rows = dict[str, list[dict[str, Any]]]
Samples = np.ndarray[Any, np.dtype[np.float32]]
RATE = 16_000
COUNTS = {"train": 24, "dev": 6, "test": 6}


def voice(seed: int) -> Samples:
    """Two seconds that are loud and quiet by turns as speech is, no two alike; (samples,)."""
    random = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    syllables = np.repeat(random.uniform(0.05, 1.0, 20) * (random.random(20) > 0.2), len(time) // 20)
    pitch = np.repeat(random.uniform(100, 250, 20), len(time) // 20)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    weights = random.uniform(0, 1, (20, 12)).repeat(len(time) // 20, axis=0)
    tones = sum(weights[:, k] * np.sin((k + 1) * phase) for k in range(12))
    return (0.03 * syllables * tones + random.normal(scale=1e-4, size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for split, number in COUNTS.items():
        for index in range(number):
            soundfile.write(folder / f"{split}{index}.wav", voice(hash_of(split, index)), RATE)
    return folder


def hash_of(split: str, index: int) -> int:
    return 1000 * list(COUNTS).index(split) + index


@pytest.fixture
def rows(recordings: Path) -> Rows:
    """The clean corpus, for a test to plant a fault in."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefgh"))
    words = ["".join(random.choice(letters, 4)) for _ in range(3000)]
    return {
        split: [
            {
                "audio_filepath": str(recordings / f"{split}{index}.wav"),
                "text": " ".join(random.choice(words, 7)),
                "duration": 2.0,
                "speaker": f"{split}-speaker{index % 3}",
                "id": f"{split}{index}",
            }
            for index in range(number)
        ]
        for split, number in COUNTS.items()
    }


def inspect(folder: Path, rows: Rows, **options: Any) -> Inspection:
    for split, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return inspect_corpus([folder], audio=options.pop("audio", "all"), **options)


def found(inspection: Inspection) -> list[tuple[str, str, list[str]]]:
    """(severity, title, ids) of each finding."""
    return [
        (finding.severity, finding.title, [place.id for place in finding.places])
        for finding in inspection.findings
    ]


def test_a_clean_corpus_gives_no_finding(tmp_path: Path, rows: Rows) -> None:
    inspection = inspect(tmp_path, rows)
    assert found(inspection) == []
    assert not inspection.serious
    assert len(inspection.heard) == len(inspection.facts) == 36


def plant_file(
    row: dict[str, Any], folder: Path, samples: Samples, *, rate: int = RATE, name: str = ""
) -> None:
    path = folder / (name or "planted.wav")
    soundfile.write(path, samples, rate)
    row["audio_filepath"] = str(path)


def no_text(rows: Rows, folder: Path) -> None:
    rows["train"][3]["text"] = " ?! "


def no_duration(rows: Rows, folder: Path) -> None:
    rows["train"][3]["duration"] = 0


def missing(rows: Rows, folder: Path) -> None:
    rows["train"][3]["audio_filepath"] = "nowhere.wav"


def not_audio(rows: Rows, folder: Path) -> None:
    (folder / "planted.wav").write_text("no audio")
    rows["train"][3]["audio_filepath"] = "planted.wav"


def untrue_duration(rows: Rows, folder: Path) -> None:
    rows["train"][3]["duration"] = 2.5


def too_many_characters(rows: Rows, folder: Path) -> None:
    # 2 s are 201 frames of 10 ms, stacked by three 67; at 1.1 times the speed 61.
    rows["train"][3]["text"] = ("abcdefgh" * 8)[:62]


def damaged(rows: Rows, folder: Path) -> None:
    path = folder / "planted.flac"
    soundfile.write(path, voice(99), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    rows["train"][3]["audio_filepath"] = str(path)


def same_file_in_test(rows: Rows, folder: Path) -> None:
    rows["test"][3]["audio_filepath"] = rows["train"][2]["audio_filepath"]


def copied_to_dev(rows: Rows, folder: Path) -> None:
    path = folder / "copy.wav"
    path.write_bytes(Path(rows["train"][2]["audio_filepath"]).read_bytes())
    rows["dev"][3]["audio_filepath"] = str(path)


def dev_in_test(rows: Rows, folder: Path) -> None:
    rows["test"][3]["audio_filepath"] = rows["dev"][2]["audio_filepath"]


def louder_in_another_format(rows: Rows, folder: Path) -> None:
    samples = soundfile.read(rows["train"][2]["audio_filepath"], dtype="float32")[0]
    plant_file(rows["test"][3], folder, 2.5 * samples, name="planted.ogg")


def cut_at_the_beginning(rows: Rows, folder: Path) -> None:
    samples = soundfile.read(rows["train"][2]["audio_filepath"], dtype="float32")[0]
    plant_file(rows["test"][3], folder, samples[1700:])
    rows["test"][3]["duration"] -= 1700 / RATE


def twice_in_training(rows: Rows, folder: Path) -> None:
    for field in ("audio_filepath", "text"):
        rows["train"][3][field] = rows["train"][2][field]


def two_transcripts(rows: Rows, folder: Path) -> None:
    rows["train"][3]["audio_filepath"] = rows["train"][2]["audio_filepath"]


def same_speaker(rows: Rows, folder: Path) -> None:
    rows["test"][3]["speaker"] = rows["train"][2]["speaker"]


def no_speaker(rows: Rows, folder: Path) -> None:
    del rows["train"][3]["speaker"]


def same_sentence(rows: Rows, folder: Path) -> None:
    rows["test"][3]["text"] = rows["train"][2]["text"].upper() + "!"


def nearly_the_same_sentence(rows: Rows, folder: Path) -> None:
    rows["train"][2]["text"] = "abc bcd cde def efg fgh gha hab"
    rows["test"][3]["text"] = "abc bcd cde def effg fgh gha hab"


def silent(rows: Rows, folder: Path) -> None:
    plant_file(rows["train"][3], folder, np.zeros(2 * RATE, np.float32))


def mostly_pause(rows: Rows, folder: Path) -> None:
    samples = 1e-2 * voice(99)
    samples[:3000] *= 100
    plant_file(rows["train"][3], folder, samples)


def noise_alone(rows: Rows, folder: Path) -> None:
    plant_file(
        rows["train"][3], folder, np.random.default_rng(9).normal(scale=0.1, size=2 * RATE).astype(np.float32)
    )


def clipped(rows: Rows, folder: Path) -> None:
    plant_file(rows["train"][3], folder, np.clip(30 * voice(99), -0.8, 0.8))


def unheard_end(rows: Rows, folder: Path) -> None:
    rows["train"][3]["duration"] = 1.5


def too_long(rows: Rows, folder: Path) -> None:
    plant_file(rows["train"][3], folder, np.tile(voice(99), 31))
    rows["train"][3] |= {"duration": 62.0, "text": " ".join([rows["train"][3]["text"]] * 31)}


def too_little_text(rows: Rows, folder: Path) -> None:
    rows["train"][3]["text"] = "abc"


def digits(rows: Rows, folder: Path) -> None:
    for row in rows["train"][3:8]:
        row["text"] += " 12"


def markup(rows: Rows, folder: Path) -> None:
    rows["train"][3]["text"] += " <abc>"


def invisible(rows: Rows, folder: Path) -> None:
    for row in rows["train"][3:8]:
        row["text"] = row["text"][:6] + "\u200d" + row["text"][6:]


def removed_mark(rows: Rows, folder: Path) -> None:
    rows["train"][3]["text"] = "\ufeff" + rows["train"][3]["text"]


def two_scripts(rows: Rows, folder: Path) -> None:
    for row in rows["train"][3:8]:
        row["text"] += " b\u0430d"


def wrong_encoding(rows: Rows, folder: Path) -> None:
    for row in rows["train"][3:8]:
        row["text"] += " " + "caf\u00e9".encode().decode("latin-1")


def rare_character(rows: Rows, folder: Path) -> None:
    rows["train"][3]["text"] += " zz"


def character_that_training_lacks(rows: Rows, folder: Path) -> None:
    rows["dev"][3]["text"] += " z"


def another_rate(rows: Rows, folder: Path) -> None:
    plant_file(rows["test"][3], folder, soxr.resample(voice(99), RATE, RATE // 2), rate=RATE // 2)


def stereo(rows: Rows, folder: Path) -> None:
    plant_file(rows["train"][3], folder, np.stack([voice(99), voice(98)], axis=1))


FIVE = [f"train{index}" for index in range(3, 8)]
PLANTED: list[tuple[Callable[[Rows, Path], None], str, str, list[str]]] = [
    (no_text, "serious", "1 row will be refused: no text", ["train3"]),
    (no_duration, "serious", "1 row will be refused: no duration", ["train3"]),
    (missing, "serious", "1 row will be refused: audio missing", ["train3"]),
    (not_audio, "serious", "1 row will be refused: audio unreadable", ["train3"]),
    (untrue_duration, "serious", "1 row will be refused: untrue duration", ["train3"]),
    (too_many_characters, "serious", "1 row will be refused: too short for its transcript", ["train3"]),
    (damaged, "serious", "1 of 36 recordings listened to: audio unreadable", ["train3"]),
    (same_file_in_test, "serious", "1 row to be tested on with a recording of another split", ["test3"]),
    (copied_to_dev, "serious", "1 row to be tested on with a recording of another split", ["dev3"]),
    (dev_in_test, "serious", "1 row to be tested on with a recording of another split", ["test3"]),
    (
        louder_in_another_format,
        "serious",
        "1 row to be tested on with a recording of another split",
        ["test3"],
    ),
    (cut_at_the_beginning, "serious", "1 row to be tested on with a recording of another split", ["test3"]),
    (twice_in_training, "warning", "1 recording twice in one split", ["train3"]),
    (two_transcripts, "warning", "1 recording with two transcripts", ["train3"]),
    (same_speaker, "serious", "test shares 1 speaker with training", ["test3"]),
    (no_speaker, "note", "the speaker of 1 row is not known", ["train3"]),
    (same_sentence, "serious", "1 row of test (17%) with a sentence of training, or nearly", ["test3"]),
    (
        nearly_the_same_sentence,
        "serious",
        "1 row of test (17%) with a sentence of training, or nearly",
        ["test3"],
    ),
    (silent, "warning", "1 of 36 recordings listened to: silent", ["train3"]),
    (mostly_pause, "warning", "1 of 36 recordings listened to: more than 80% without speech", ["train3"]),
    (noise_alone, "warning", "1 of 36 recordings listened to: more than 80% without speech", ["train3"]),
    (clipped, "warning", "1 of 36 recordings listened to: clipped", ["train3"]),
    (unheard_end, "warning", "1 row shorter than the file", ["train3"]),
    (too_long, "warning", "1 utterance longer than 60 s", ["train3"]),
    (too_little_text, "warning", "1 utterance may have another's transcript", ["train3"]),
    (digits, "warning", "5 transcripts with digits", FIVE),
    (markup, "warning", "1 transcript with markup", ["train3"]),
    (invisible, "warning", "5 transcripts with invisible characters", FIVE),
    (removed_mark, "note", "1 transcript with invisible characters that normalisation removes", ["train3"]),
    (two_scripts, "warning", "5 transcripts with words of two scripts", FIVE),
    (wrong_encoding, "warning", "5 transcripts with text in a wrong encoding", FIVE),
    (rare_character, "warning", "1 character in training fewer than 5 times: z U+007A", ["train3"]),
    (character_that_training_lacks, "warning", "dev has 1 character that training lacks: z U+007A", ["dev3"]),
    (another_rate, "warning", "2 sampling rates: 16,000 Hz 35, 8,000 Hz 1", ["test3"]),
    (stereo, "note", "1 row of files with several channels", ["train3"]),
]


@pytest.mark.parametrize(
    ("plant", "severity", "title", "ids"), PLANTED, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_fault_is_found_where_it_is_and_nothing_else(
    plant: Callable[[Rows, Path], None], severity: str, title: str, ids: list[str], rows: Rows, tmp_path: Path
) -> None:
    plant(rows, tmp_path)
    inspection = inspect(tmp_path, rows)
    assert len(inspection.findings) == 1, found(inspection)
    (finding,) = inspection.findings
    assert (finding.severity, [place.id for place in finding.places]) == (severity, ids)
    assert finding.title.startswith(title)
    assert finding.remedy
    assert inspection.serious == (severity == "serious")


def test_the_recipes_settings_decide_what_is_refused(rows: Rows, tmp_path: Path) -> None:
    too_many_characters(rows, tmp_path)
    refused = "1 row will be refused: too short for its transcript"
    assert refused not in [title for _, title, _ in found(inspect(tmp_path, rows, speed=0.0))]
    finer = FeatureConfig(stack=2)
    assert refused not in [title for _, title, _ in found(inspect(tmp_path, rows, features=finer))]
    coarser = FeatureConfig(stack=12)
    assert "36 rows will be refused: too short for its transcript" in [
        title for _, title, _ in found(inspect(tmp_path, rows, features=coarser))
    ]


def test_nothing_is_expected_where_nothing_can_be_trained_on(rows: Rows, tmp_path: Path) -> None:
    for row in rows["train"]:
        row["text"] = ""
    inspection = inspect(tmp_path, rows)
    assert inspection.expectation is None
    assert inspection.serious


def test_only_a_sample_is_listened_to_and_the_seed_decides_which(rows: Rows, tmp_path: Path) -> None:
    first, again, other = (inspect(tmp_path, rows, audio=5, seed=seed) for seed in (1, 1, 2))
    assert len(first.heard) == len(first.sounds) == 5
    assert first.heard == again.heard != other.heard
    assert inspect(tmp_path, rows, audio=0).heard == []


def test_a_sample_begins_with_pairs_that_may_be_copies(rows: Rows, tmp_path: Path) -> None:
    louder_in_another_format(rows, tmp_path)
    rows["test"][3]["text"] = rows["train"][2]["text"]
    inspection = inspect(tmp_path, rows, audio=4)
    assert {"train2", "test3"} <= {row.utterance.id for row in inspection.heard}
    assert any("recording of another split" in finding.title for finding in inspection.findings)


def test_frames_from_a_loader_are_only_looked_for(rows: Rows, tmp_path: Path) -> None:
    rows["train"][3]["audio_filepath"] = "nowhere.npz"
    inspection = inspect(tmp_path, rows, features=FeatureConfig(kind="frames", dims=3, hop_ms=10.0, stack=1))
    assert [(title, ids) for _, title, ids in found(inspection)] == [
        ("1 row will be refused: audio missing", ["train3"])
    ]
    assert inspection.heard == []


def test_a_sample_below_nought_is_a_programmers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="audio must be"):
        inspect_corpus([tmp_path], audio=-1)


@pytest.mark.parametrize("names", [[], ["empty"], ["missing.jsonl"]])
def test_no_manifest_is_one_line(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        inspect_corpus([tmp_path / name for name in names])
    assert "\n" not in str(caught.value)


def test_shards_are_judged_as_the_files_in_them(tmp_path: Path, rows: Rows) -> None:
    """Faults of files, of sound and of pairs of recordings; then shards that are damaged or gone."""
    plain, sharded = tmp_path / "plain", tmp_path / "sharded"
    plain.mkdir()
    plant_file(rows["train"][3], tmp_path, np.zeros(2 * RATE, np.float32))
    rows["train"][5]["duration"] = 3.0
    rows["dev"][1]["audio_filepath"] = rows["train"][7]["audio_filepath"]
    (tmp_path / "noise.wav").write_bytes(b"x" * 5000)
    rows["dev"][2]["audio_filepath"] = str(tmp_path / "noise.wav")
    expected = inspect(plain, rows)
    assert len(found(expected)) >= 4
    for split in rows:
        shard_command(manifest=plain / f"{split}.jsonl", output=sharded / split)
    manifests = [sharded / split / f"{split}.jsonl" for split in rows]
    got = inspect_corpus(manifests, audio="all")
    assert found(got) == found(expected)
    np.testing.assert_equal([vars(sound) for sound in got.sounds], [vars(sound) for sound in expected.sounds])

    for name, change in (("train", Path.unlink), ("test", lambda path: path.write_bytes(b""))):
        change(sharded / name / "shard-000000.tar")
    titles = {title.split(": ")[-1]: ids for _, title, ids in found(inspect_corpus(manifests))}
    lost = [ids for title, ids in titles.items() if "missing" in title or "unreadable" in title]
    assert sorted(map(len, lost)) == sorted([len(rows["train"]), len(rows["test"]) + 1]), titles
