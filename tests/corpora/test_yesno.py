from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import YESNO, needs

from asr_lstm.cli import main
from asr_lstm.corpora.yesno import ARCHIVE, cut_recording, find_words, prepare_yesno, read_yesno
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance, read_manifest

ROOT = Path(__file__).resolve().parents[2]
RATE = 8000


def _recording(*, start: float = 0.25) -> np.ndarray:
    """Eight tones of 0.3 s with 0.25 s of faint noise between and after, the first from `start` on."""
    samples = np.random.default_rng(0).normal(scale=1e-3, size=round(RATE * (start + 0.55 * 8)))
    for word in range(8):
        first = round(RATE * (start + 0.55 * word))
        samples[first : first + round(0.3 * RATE)] += 0.2 * np.sin(np.arange(round(0.3 * RATE)))
    return samples.astype(np.float32)


def _corpus(folder: Path, *, count: int = 60) -> Path:
    folder.mkdir(parents=True)
    samples = _recording()
    for number in range(count):
        soundfile.write(folder / f"{'_'.join(f'{4 * number:08b}')}.wav", samples, RATE)
    (folder / "README").write_text("words")
    (folder / "0_1.wav").write_bytes(b"not one of them")
    return folder


def test_the_first_thirty_by_name_train_and_the_last_thirty_test(tmp_path: Path) -> None:
    folder = _corpus(tmp_path / "waves_yesno")
    prepared = prepare_yesno(tmp_path / "m", source=tmp_path)
    rows = {split: read_manifest(path) for split, path in prepared.manifests.items()}
    names = sorted(path.stem for path in folder.glob("?_?_?_?_?_?_?_?.wav"))
    assert [row.id for row in rows["train"]][::8] == names[:25]
    assert [row.path.stem for row in rows["train"]] == [name for name in names[:25] for _ in range(8)]
    assert [row.id for row in rows["dev"]] == names[25:30]
    assert [row.id for row in rows["test"]] == names[30:]
    assert rows["test"][0].text == "no yes yes yes yes no no no"  # 30 * 4 = 0b01111000
    # The first tone begins at 0.25 s, and a margin of 0.05 s is left.
    assert [row.offset for row in rows["test"]] == pytest.approx([0.2] * 30, abs=0.02)
    assert [row.offset + row.duration for row in rows["test"]] == pytest.approx([0.25 + 0.55 * 8] * 30)
    assert any("last 5 of the 30" in note for note in prepared.notes)


@pytest.mark.parametrize("switched_on", [False, True])
def test_the_words_are_found(switched_on: bool) -> None:
    samples = _recording(start=0.9)
    if switched_on:  # the rest of a word, and digital silence
        samples[: round(0.05 * RATE)] = 0.2
        samples[round(0.05 * RATE) : round(0.3 * RATE)] = 0
    starts = [0.9 + 0.55 * word for word in range(8)]
    assert find_words(samples, rate=RATE) == pytest.approx(starts, abs=0.03)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.zeros(100), np.full(RATE, 0.1)])
def test_where_nothing_stands_out_there_is_no_word(samples: np.ndarray) -> None:
    assert find_words(samples.astype(np.float32), rate=RATE) == []


def test_a_recording_is_cut_before_each_word(tmp_path: Path) -> None:
    path = tmp_path / "0_1_0_0_1_0_1_0.wav"
    soundfile.write(path, _recording(start=0.9), RATE)
    seconds = soundfile.info(path).duration
    text = "no yes no no yes no yes no"
    parts = cut_recording(Utterance(path, text, duration=seconds))
    assert [part.text for part in parts] == [" ".join(text.split()[first:]) for first in range(8)]
    assert [part.offset for part in parts] == pytest.approx([0.85 + 0.55 * k for k in range(8)], abs=0.03)
    assert [part.offset + part.duration for part in parts] == pytest.approx([seconds] * 8)
    assert [part.id for part in parts][:2] == [path.stem, f"{path.stem}-from-2"]
    # Where other words are found than were said, only the silence before is cut off.
    (whole,) = cut_recording(Utterance(path, "no yes", duration=seconds))
    assert (whole.text, whole.offset) == ("no yes", parts[0].offset)


def test_what_is_not_yesno_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"waves_yesno: holds 59 of the 60 .*DOWNLOAD=1"):
        read_yesno(_corpus(tmp_path / "waves_yesno", count=59))
    (tmp_path / "m").mkdir()
    with pytest.raises(DataError, match=f"{tmp_path / 'm'}: holds 0 of the 60"):
        prepare_yesno(tmp_path / "m", source=tmp_path / "m")


def test_the_recipe_without_data_says_both_ways_and_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("DATA", "DOWNLOAD"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("yesno", "digits", "speechocean762"):
        assert main(["recipe", str(ROOT / "recipes" / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "DATA=" in line
        assert "DOWNLOAD=1" in line


def test_the_archive() -> None:
    """torchaudio knows the same archive by the same checksum."""
    datasets = pytest.importorskip("torchaudio.datasets.yesno")
    (release,) = datasets._RELEASE_CONFIGS.values()
    assert ARCHIVE.sha256 == release["checksum"]
    assert ARCHIVE.url.partition("//")[2] == release["url"].partition("//")[2]


@needs(YESNO)
def test_the_real_corpus(tmp_path: Path) -> None:
    prepared = prepare_yesno(tmp_path, source=YESNO)
    rows = {split: read_manifest(path) for split, path in prepared.manifests.items()}
    assert not (tmp_path / "dropped.tsv").exists()
    assert rows["test"][-1].text == "yes yes yes yes yes yes yes yes"
    assert rows["dev"][-1].id == "0_1_1_1_1_0_1_0"
    assert rows["test"][0].id == "0_1_1_1_1_1_1_1"
    wholes = [row for part in rows.values() for row in part if row.id == row.path.stem]
    assert len(wholes) == 60
    assert len(rows["train"]) >= 25 + 7 * 23  # nearly all come apart into eight words
    for row in wholes:
        assert row.offset + row.duration == pytest.approx(soundfile.info(row.path).duration)
        assert 0.5 < row.offset < 1.3  # nobody speaks at once
        assert row.duration > 4.3  # 8 words of 0.2 s and what is between them
        assert "_".join("1" if word == "yes" else "0" for word in row.text.split()) == row.path.stem
