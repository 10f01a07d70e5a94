"""`asr-lstm train --manifest FILE`: from one manifest to a model, on tones; and what a mistake is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import yaml

from asr_lstm.bundle import load_bundle
from asr_lstm.cli import main
from asr_lstm.config import load_recipe
from asr_lstm.corpora import accents, espeak
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.report import read_results

# So small that a run takes a second or two; everything else is chosen.
TINY = ["--encoder.layers=1", "--encoder.hidden=8", "--training.epochs=2", "--features.mels=16"]
RATE = 8000
FOLDER = Path(__file__).resolve().parents[1] / "recipes" / "folder"
Samples = Callable[..., object]


def sung(folder: Path, sing: Samples, texts: list[str], *, speakers: int = 0) -> Path:
    """A manifest of tones, by so many speakers in turn; 0 for nobody known."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, text in enumerate(texts):
        samples = sing(text, seed=number)
        path = folder / f"{number}.wav"
        soundfile.write(path, samples, RATE)
        speaker = f"s{number % speakers}" if speakers else ""
        rows.append(Utterance(path, text, len(samples) / RATE, speaker=speaker))  # type: ignore[arg-type]
    write_manifest(folder / "mine.jsonl", rows)
    return folder / "mine.jsonl"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_manifest_becomes_a_model_whose_settings_can_be_edited_and_gone_on_with(
    work: Path,
    synthetic_speech: Samples,
    synthetic_texts: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = synthetic_texts[:24]
    manifest = sung(work / "data", synthetic_speech, texts, speakers=6)
    given = manifest.read_bytes()
    assert main(["train", "--manifest", str(manifest), "--minutes", "20", *TINY]) == 0
    printed = capsys.readouterr().out
    exp = work / "exp" / "mine"
    train, dev = (read_manifest(exp / "manifests" / f"{split}.jsonl") for split in ("train", "dev"))
    assert len(train) + len(dev) == len(texts)
    assert {row.speaker for row in train}.isdisjoint(row.speaker for row in dev)
    assert manifest.read_bytes() == given

    settings = load_recipe(exp, environment={})
    assert (settings.minutes, settings.training.max_minutes, settings.name) == (0, 20, "mine")
    assert (settings.features.rate, settings.features.mels, settings.encoder.hidden) == (RATE, 16, 8)
    assert "  features.rate: 8000 (recorded at 8000 Hz)" in printed
    assert "encoder.hidden" not in printed  # it was said, not chosen
    assert "the language is not said" in printed
    assert "asr-lstm recipe exp/mine\n" in printed
    remarks = (exp / "recipe.yaml").read_text().splitlines()
    assert remarks[0].startswith("# chosen for")
    assert "#   features.rate: 8000 (recorded at 8000 Hz)" in remarks

    results = read_results(exp / "results.json")
    assert list(results.splits) == ["dev"]
    assert results.command.startswith("asr-lstm train --manifest")
    assert (exp / "report.html").is_file()
    assert load_bundle(exp / "model").features.rate == RATE

    weights = exp / "model" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    assert (
        main(["train", "--manifest", str(manifest), "--minutes", "20", *TINY]) == 0
    )  # nothing is done twice
    assert main(["recipe", "exp/mine"]) == 0
    assert weights.stat().st_mtime_ns == stamp
    text = (exp / "recipe.yaml").read_text()
    (exp / "recipe.yaml").write_text(text.replace("  hidden: 8\n", "  hidden: 12\n"))
    assert main(["recipe", "exp/mine"]) == 0
    assert load_bundle(exp / "model").encoder.hidden == 12


def test_a_dev_manifest_and_a_folder_are_taken_as_given(
    work: Path,
    synthetic_speech: Samples,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["ab c", "c ab", "b"] * 4)
    dev = sung(work / "other", synthetic_speech, ["a c b"])
    arguments = ["--dev", str(dev), "--output", "models/first", "--minutes", "2", *TINY]
    assert main(["train", "--manifest", str(manifest), *arguments]) == 0
    assert [row.text for row in read_manifest(work / "models" / "first" / "manifests" / "dev.jsonl")] == [
        "a c b"
    ]
    again = capsys.readouterr().out.splitlines()[-1].partition("go on with: asr-lstm ")[2]
    weights = work / "models" / "first" / "model" / "model.safetensors"
    stamp = weights.stat().st_mtime_ns
    assert main(again.split()) == 0
    assert weights.stat().st_mtime_ns == stamp
    assert not (work / "exp").exists()


def test_one_voice_is_divided_by_recording_and_a_note_says_so(work: Path, synthetic_speech: Samples) -> None:
    manifest = sung(work / "data", synthetic_speech, ["a b", "b a", "ab"] * 4, speakers=1)
    assert main(["train", "--manifest", str(manifest), "--minutes=2", *TINY]) == 0
    notes = read_results(work / "exp" / "mine" / "results.json").notes
    assert any("split by recording, since there is one speaker" in note for note in notes)


def test_faulty_recordings_are_left_out(work: Path, synthetic_speech: Samples) -> None:
    manifest = sung(work / "data", synthetic_speech, ["a b", "b a", "ab"] * 4)
    (work / "data" / "3.wav").unlink()
    assert main(["train", "--manifest", str(manifest), "--minutes=2", *TINY]) == 0
    manifests = work / "exp" / "mine" / "manifests"
    assert "audio missing" in (manifests / "dropped.tsv").read_text()
    assert sum(len(read_manifest(manifests / f"{split}.jsonl")) for split in ("train", "dev")) == 11


def test_the_recipe_of_a_folder_chooses_in_the_same_way(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a b", "b a", "ab"] * 4
    sung(work / "data", synthetic_speech, texts)
    (work / "data" / "mine.jsonl").unlink()
    for number, text in enumerate(texts):
        (work / "data" / f"{number}.txt").write_text(text)
    for name, value in (("DATA", "data"), ("MINUTES", "20"), ("SPOKEN", "cs")):
        monkeypatch.setenv(name, value)
    assert main(["recipe", str(FOLDER), *TINY, "--bootstrap.hours=0", "--data.batch_seconds=5"]) == 0
    assert "  features.rate: 8000 (recorded at 8000 Hz)" in capsys.readouterr().out
    settings = load_recipe(work / "exp" / "folder", environment={})
    assert (settings.minutes, settings.training.max_minutes, settings.data.batch_seconds) == (0, 20, 5)
    assert {row.lang for row in read_manifest(work / "exp" / "folder" / "manifests" / "train.jsonl")} == {
        "cs"
    }


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that makes no sense; it comes last, after what was logged."""
    capsys.readouterr()
    assert main(["train", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    assert lines[-1].startswith("asr-lstm train: ")
    return lines[-1]


def test_what_makes_no_sense_is_one_line(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["ab", "ba"] * 6)
    (work / "empty.jsonl").touch()
    rows = manifest.read_text().splitlines(keepends=True)
    (work / "data" / "one.jsonl").write_text(rows[0])
    assert "absent.jsonl: cannot read the manifest" in complaint(capsys, "--manifest", "absent.jsonl")
    assert "empty.jsonl: the manifest is empty" in complaint(capsys, "--manifest", "empty.jsonl")
    assert "no.jsonl" in complaint(capsys, "--manifest", manifest, "--dev", "no.jsonl")
    assert "--manifest" in complaint(capsys, "--minutes", "3")
    for minutes in ("0", "-1", "nan", "inf", "soon"):
        assert "minutes" in complaint(capsys, "--manifest", manifest, f"--minutes={minutes}")
    assert not (work / "exp").exists()
    assert "1 recording cannot be divided" in complaint(capsys, "--manifest", "data/one.jsonl")
    assert "nonsense" in complaint(capsys, "--manifest", manifest, "--nonsense=3")
    assert "also in the training data" in complaint(capsys, "--manifest", manifest, "--dev", manifest)
    parts = [
        replace(row, id=f"part of {row.id}", offset=row.duration / 4, duration=row.duration / 2)
        for row in read_manifest(manifest)
    ]
    write_manifest(work / "parts.jsonl", parts)
    assert "also in the training data" in complaint(capsys, "--manifest", manifest, "--dev", "parts.jsonl")


def test_other_parts_of_the_same_recordings_are_worth_a_note(
    work: Path, synthetic_speech: Samples, synthetic_texts: list[str]
) -> None:
    rows = read_manifest(sung(work / "data", synthetic_speech, synthetic_texts[:24]))
    write_manifest(work / "begin.jsonl", [replace(row, duration=0.5 * row.duration) for row in rows])
    # The cuts overlap a little, as cuts do.
    ends = [replace(row, offset=0.4 * row.duration, duration=0.6 * row.duration) for row in rows[:20]]
    write_manifest(work / "end.jsonl", ends)
    assert main(["train", "--manifest", "begin.jsonl", "--dev", "end.jsonl", "--minutes", "20", *TINY]) == 0
    notes = read_results(work / "exp" / "begin" / "results.json").notes
    assert "dev: 20 of its recordings are also in the training data, as given" in notes


def test_recordings_that_are_all_gone_are_named(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["ab", "ba"] * 6)
    for path in (work / "data").glob("*.wav"):
        path.unlink()
    assert "nothing is left for train" in complaint(capsys, "--manifest", manifest)


def test_another_experiment_and_the_manifest_itself_are_never_written_over(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["ab", "ba"] * 6)
    other = work / "exp" / "mine"
    other.mkdir(parents=True)
    (other / "recipe.yaml").write_text("name: mine\ncorpus: {prepare: my.own}\n")
    assert "holds an experiment on other data" in complaint(capsys, "--manifest", manifest)
    assert (other / "recipe.yaml").read_text() == "name: mine\ncorpus: {prepare: my.own}\n"
    shutil.move(work / "data", work / "place" / "manifests")
    (work / "place" / "manifests" / "mine.jsonl").rename(work / "place" / "manifests" / "train.jsonl")
    inside = work / "place" / "manifests" / "train.jsonl"
    given = inside.read_bytes()
    assert "choose another --output" in complaint(capsys, "--manifest", inside, "--output", "place")
    assert inside.read_bytes() == given


def test_a_language_is_checked_before_anything_is_done_and_kept_with_the_data(
    work: Path,
    synthetic_speech: Samples,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["ab", "ba"] * 6)
    pytest.importorskip("espeakng_loader")
    assert "no language 'xyzzy'" in complaint(capsys, "--manifest", manifest, "--lang", "xyzzy")
    assert not (work / "exp").exists()

    def absent() -> tuple[Path, Path]:
        raise ConfigError("synthetic speech needs espeak-ng")

    for module in (accents, espeak):
        monkeypatch.setattr(module, "find_espeak", absent)
    monkeypatch.setattr("asr_lstm.train.find_espeak", absent)
    assert main(["train", "--manifest", str(manifest), "--lang=cs", "--minutes=9", *TINY]) == 0
    assert "bootstrap.hours: 0 (synthetic speech needs espeak-ng)" in capsys.readouterr().out
    rows = [json.loads(line) for line in (work / "exp/mine/manifests/train.jsonl").read_text().splitlines()]
    assert {row["lang"] for row in rows} == {"cs"}


def test_synthetic_speech_comes_first_where_the_language_is_said(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader")
    manifest = sung(work / "data", synthetic_speech, ["ab ba", "ba c", "c de", "bad cab"] * 4)
    tiny = [*TINY, "--bootstrap.hours=0.005", "--training.epochs=1"]
    assert main(["train", "--manifest", str(manifest), "--lang=cs", "--minutes=20", *tiny]) == 0
    settings = yaml.safe_load((work / "exp/mine/recipe.yaml").read_text())
    assert (settings["bootstrap"]["lang"], settings["training"]["max_minutes"]) == ("cs", 16.4)
    assert (work / "exp/mine/bootstrap/model/model.safetensors").is_file()


def test_a_mistyped_option_leaves_the_settings_of_the_last_run(
    work: Path, synthetic_speech: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sung(work / "data", synthetic_speech, ["a b", "b a", "ab"] * 4)
    assert main(["train", "--manifest", str(manifest), "--minutes=2", *TINY]) == 0
    settings = (work / "exp" / "mine" / "recipe.yaml").read_text()
    assert "hidden: 8" in settings
    said = complaint(capsys, "--manifest", manifest, "--training.epoch=3")
    assert said == "asr-lstm train: unrecognized arguments: --training.epoch=3"
    assert (work / "exp" / "mine" / "recipe.yaml").read_text() == settings
