from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import SPEECHOCEAN762, needs

from asr_lstm.corpora.speechocean762 import (
    ARCHIVE,
    DEV_NOTE,
    DEV_SPEAKERS,
    NO_TEST_NOTE,
    prepare_speechocean762,
    read_speechocean762,
)
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance, read_manifest

SPEAKERS = {"train": {"0001": ("m", 6), "0056": ("m", 6), "9616": ("f", 28)}, "test": {"0003": ("m", 6)}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The official layout: two of the three training speakers are of those held out; two utterances each."""
    folder = tmp_path / "data" / "speechocean762"
    for split, speakers in SPEAKERS.items():
        (folder / split).mkdir(parents=True)
        tables: dict[str, list[str]] = {}
        for speaker, (gender, age) in speakers.items():
            (folder / "WAVE" / f"SPEAKER{speaker}").mkdir(parents=True)
            tables.setdefault("spk2gender", []).append(f"{speaker} {gender}")
            tables.setdefault("spk2age", []).append(f"{speaker} {age}")
            for number in range(2):
                utt = f"0{speaker}000{number}"
                path = f"WAVE/SPEAKER{speaker}/{utt}.WAV"
                soundfile.write(folder / path, np.full(8000, 0.1), 16000, format="WAV")
                tables.setdefault("wav.scp", []).append(f"{utt}\t{path}")
                tables.setdefault("text", []).append(f"{utt}\tMARK IS  GOING {number}")
                tables.setdefault("utt2spk", []).append(f"{utt}\t{speaker}")
        for name, lines in tables.items():
            (folder / split / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("below", ["", ".."])
def test_the_official_layout(corpus: Path, tmp_path: Path, below: str) -> None:
    prepared = prepare_speechocean762(tmp_path / "m", source=corpus / below)
    rows = {split: read_manifest(path) for split, path in prepared.manifests.items()}
    assert {split: [row.speaker for row in part] for split, part in rows.items()} == {
        "train": ["0001", "0001"],
        "dev": ["0056", "0056", "9616", "9616"],
        "test": ["0003", "0003"],
    }
    last = rows["dev"][-1]
    assert (last.id, last.text, last.duration, last.lang) == ("096160001", "MARK IS  GOING 1", 0.5, "en")
    assert last.extra == {"gender": "f", "age": 28}
    assert prepared.notes == [DEV_NOTE]


def test_what_the_tables_lack_is_dropped_and_listed(corpus: Path, tmp_path: Path) -> None:
    (corpus / "WAVE" / "SPEAKER0001" / "000010000.WAV").unlink()
    text = corpus / "train" / "text"
    text.write_text(text.read_text().replace("000560001\tMARK IS  GOING 1\n", ""))
    prepared = prepare_speechocean762(tmp_path / "m", source=corpus)
    assert [row.id for row in read_manifest(prepared.manifests["train"])] == ["000010001"]
    dropped = (tmp_path / "m" / "dropped.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in dropped] == ["000010000", "000560001"]
    (corpus / "train" / "utt2spk").unlink()
    with pytest.raises(DataError, match=r"utt2spk: cannot be read"):
        prepare_speechocean762(tmp_path / "m", source=corpus)


def test_a_table_in_place_of_the_folders(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    lines = ["utt\tpath\tseconds\tspeaker\tgender\tage\ttext"]
    for speaker in ("0001", "0056"):
        soundfile.write(folder / f"{speaker}.ogg", np.full(8000, 0.1), 16000)
        lines.append(f'{speaker}1\t{speaker}.ogg\t0.500\t{speaker}\tm\t6\tSAY "HI"')
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    prepared = prepare_speechocean762(tmp_path / "m", source=folder)
    assert set(prepared.manifests) == {"train", "dev"}
    (row,) = read_manifest(prepared.manifests["dev"])
    assert (row.id, row.text, row.extra) == ("00561", 'SAY "HI"', {"gender": "m", "age": 6})
    assert prepared.notes == [DEV_NOTE, NO_TEST_NOTE]

    (folder / "train.tsv").write_text("\n".join(lines).replace("\t6\t", "\tsix\t"))
    with pytest.raises(DataError, match=r"train\.tsv:2: not a row of utt, path"):
        read_speechocean762(folder, split="train")
    (folder / "train.tsv").write_text("utt\tpath\nx\ty\n")
    with pytest.raises(DataError, match=r"train\.tsv:2: not a row of utt, path"):
        read_speechocean762(folder, split="train")


def test_what_is_not_the_corpus_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"WAVE: no training set .*train/wav\.scp.*DOWNLOAD=1"):
        prepare_speechocean762(tmp_path / "m", source=corpus / "WAVE")
    for name in ("utt2spk", "spk2gender"):
        path = corpus / "train" / name
        path.write_text(path.read_text().replace("0056\n", "0057\n").replace("9616\n", "9617\n"))
    with pytest.raises(DataError, match="nothing is left for dev"):
        prepare_speechocean762(tmp_path / "m", source=corpus)


def test_the_archive() -> None:
    assert ARCHIVE.files["WAVE/SPEAKER*/*.WAV"] == 5000


@needs(SPEECHOCEAN762)
def test_the_real_training_set_and_its_dev_speakers() -> None:
    rows = read_speechocean762(SPEECHOCEAN762, split="train")
    assert len(rows) == 2500
    dev = [row for row in rows if row.speaker in DEV_SPEAKERS]
    rest = [row for row in rows if row.speaker not in DEV_SPEAKERS]
    assert len({row.speaker for row in dev}) == len(DEV_SPEAKERS) == 15
    assert len(dev) == 0.12 * len(rows)

    def kind(row: Utterance) -> str:
        return f"{row.extra['gender']} {'adult' if row.extra['age'] >= 18 else 'child'}"

    assert Counter(map(kind, dev)) == {"f adult": 100, "f child": 60, "m adult": 60, "m child": 80}
    for group in set(map(kind, rows)):
        ages = [[row.extra["age"] for row in part if kind(row) == group] for part in (dev, rest)]
        assert statistics.mean(ages[0]) == pytest.approx(statistics.mean(ages[1]), abs=1)
    assert sum(row.duration for row in dev) / 3600 == pytest.approx(0.35, abs=0.01)
    assert all(row.path.is_file() for row in rows)
