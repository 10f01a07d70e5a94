from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr_lstm import transcribe as module
from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.cli import main
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.errors import AudioError, ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.inference import run_batch
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.transcribe import Failure, Transcript, transcribe, transcribe_command
from asr_lstm.units import CharacterUnits

RATE = 8000
TEXT = "bad cab aa"

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def good(tmp_path: Path, synthetic_speech: Callable) -> Path:
    path = tmp_path / "good.wav"
    soundfile.write(path, synthetic_speech(TEXT), RATE)
    return path


def write_bad(kind: str, folder: Path) -> Path:
    """A file that cannot be transcribed."""
    path = folder / f"{kind}.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("The quick brown fox jumps over the lazy dog.\n" * 100)
    elif kind == "truncated":
        path = path.with_suffix(".flac")
        soundfile.write(path, noise, 16000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "nan":
        noise[5000] = np.nan
        soundfile.write(path, noise, 16000, subtype="FLOAT")
    elif kind == "short":
        soundfile.write(path, noise[:160], 16000)
    elif kind == "folder":
        path.mkdir()
    return path


BAD = ["missing", "empty", "text", "truncated", "nan", "short", "folder"]


@pytest.mark.parametrize("kind", BAD)
def test_a_broken_file_is_one_line_and_the_rest_is_done(
    kind: str, tiny_bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_bad(kind, tmp_path)
    assert transcribe_command(model=tiny_bundle, paths=[bad, good]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{good}\t{TEXT}\n"
    (line,) = printed.err.splitlines()
    assert line.startswith(f"{bad}: ")
    assert "; " in line


def test_a_broken_file_alone_prints_nothing_but_its_failure(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe_command(model=tiny_bundle, paths=[tmp_path / "missing.wav"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("rate", "channels"), [(8000, 8), (11025, 1), (16000, 1), (44100, 2), (192000, 1)])
def test_any_rate_and_number_of_channels(
    rate: int, channels: int, bundle: Bundle, tmp_path: Path, synthetic_speech: Callable
) -> None:
    path = tmp_path / "a.flac"
    samples = synthetic_speech(TEXT, rate=rate)
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    (result,) = transcribe(model=bundle, paths=[path])
    assert isinstance(result, Transcript)
    assert result.text == TEXT
    assert result.duration == pytest.approx(len(samples) / rate, abs=1e-3)


@pytest.fixture
def many(tmp_path: Path, synthetic_speech: Callable, synthetic_texts: list[str]) -> list[Path]:
    """Files of different lengths, noisy ones among them, so that the texts have errors."""
    paths = []
    for index, text in enumerate(synthetic_texts[:20]):
        paths.append(tmp_path / f"{index}.wav")
        soundfile.write(
            paths[-1], synthetic_speech(text, seed=index, noise=0.08 if index % 2 else 1e-3), RATE
        )
    return paths


def texts(results: object) -> list[str]:
    return [result.text for result in results]  # type: ignore[attr-defined]


def test_a_text_does_not_depend_on_the_files_beside_it(bundle: Bundle, many: list[Path]) -> None:
    alone = [text for path in many for text in texts(transcribe(model=bundle, paths=[path]))]
    assert len(set(alone)) > 15
    assert texts(transcribe(model=bundle, paths=many)) == alone
    assert texts(transcribe(model=bundle, paths=many, batch_seconds=5.0)) == alone
    assert texts(transcribe(model=bundle, paths=many[::-1])) == alone[::-1]


def test_results_come_in_order_across_windows(
    bundle: Bundle, many: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts(transcribe(model=bundle, paths=many))
    monkeypatch.setattr(module, "_WINDOW_SECONDS", 4.0)
    mixed = [tmp_path / "missing.wav", *many[:10], tmp_path / "missing.wav", *many[10:]]
    results = list(transcribe(model=bundle, paths=mixed))
    assert [result.path for result in results] == mixed
    assert [isinstance(result, Failure) for result in results] == [True, *[False] * 10, True, *[False] * 10]
    assert texts(result for result in results if isinstance(result, Transcript)) == expected


def test_the_first_texts_come_before_the_last_files_are_read(
    bundle: Bundle, many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW_SECONDS", 1.0)
    results = transcribe(model=bundle, paths=many)
    next(results)
    many[-1].unlink()
    *_, last = results
    assert isinstance(last, Failure)


def test_words_have_the_time_at_which_they_were_sung(
    bundle: Bundle, tmp_path: Path, synthetic_speech: Callable
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, synthetic_speech(TEXT), RATE)
    (result,) = transcribe(model=bundle, paths=[path])
    assert isinstance(result, Transcript)
    assert [word.word for word in result.words] == TEXT.split()
    assert " ".join(word.word for word in result.words) == result.text
    # conftest's song: 0.16 s of silence, then 0.12 s each letter and space, of which 0.08 s sound.
    begin = 0.16
    for word in result.words:
        end = begin + 0.12 * len(word.word)
        assert word.start == pytest.approx(begin, abs=0.09)
        assert word.start < word.end <= end + 0.05
        assert word.end > end - 0.17  # within the last letter
        assert 0.5 < word.confidence <= 1
        begin = end + 0.12


def test_confidence_falls_with_noise(bundle: Bundle, tmp_path: Path, synthetic_speech: Callable) -> None:
    means = []
    for noise in (1e-3, 0.06):
        path = tmp_path / f"{noise}.wav"
        soundfile.write(path, synthetic_speech("abcde edcba", noise=noise), RATE)
        (result,) = transcribe(model=bundle, paths=[path])
        assert isinstance(result, Transcript)
        means.append(np.mean([word.confidence for word in result.words]))
    assert means[1] < means[0] - 0.05


def test_the_text_is_that_of_greedy_decoding(bundle: Bundle, many: list[Path]) -> None:
    samples, _ = soundfile.read(many[5], dtype="float32")
    logits, lengths = run_batch(bundle, [torch.from_numpy(samples)], device=torch.device("cpu"))
    (expected,) = (bundle.units.decode(ids) for ids in greedy_decode(logits, lengths))
    assert texts(transcribe(model=bundle, paths=[many[5]])) == [expected]


def test_silence_has_no_words(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(RATE, np.float32), RATE)
    assert list(transcribe(model=bundle, paths=[path])) == [Transcript(path, "", 1.0, [])]


def test_long_audio_is_refused_before_it_is_decoded(
    bundle: Bundle, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 1.0)
    monkeypatch.setattr(module, "read_audio", None)
    (result,) = transcribe(model=bundle, paths=[good])
    assert isinstance(result, Failure)
    assert isinstance(result.error, AudioError)
    assert str(result.error).startswith(f"{good}: 0.0 min is too long")


def test_a_model_that_is_none_is_refused_at_the_call(good: Path, tmp_path: Path) -> None:
    for model in (tmp_path, good, tmp_path / "missing"):
        with pytest.raises(ConfigError) as caught:
            transcribe(model=model, paths=[good])
        assert str(caught.value).startswith(f"{model}: not a model")


def test_a_model_of_other_features_is_refused() -> None:
    features = FeatureConfig(kind="frames", dims=3)
    encoder = EncoderConfig(layers=1, hidden=4)
    model = Recogniser(features, encoder, units=2)
    bundle = Bundle(model, CharacterUnits("a"), features, encoder, "ink.load")
    with pytest.raises(ConfigError, match=r"^the model takes features from ink\.load, not audio files; use "):
        transcribe(model=bundle, paths=[Path("a.wav")])


def test_no_files_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="no files to transcribe; name at least one"):
        transcribe_command(model=tiny_bundle, paths=[])


def test_the_command_prints_one_text_bare(
    tiny_bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe_command(model=tiny_bundle, paths=[good]) == 0
    assert capsys.readouterr() == (f"{TEXT}\n", "")


def test_the_command_prints_json(tiny_bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe_command(model=tiny_bundle, paths=[good], format="json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["path"], row["text"], row["model"]) == (str(good), TEXT, str(tiny_bundle))
    assert [word["word"] for word in row["words"]] == TEXT.split()


def test_a_search_prints_its_texts_and_scores(
    tiny_bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = tmp_path / "lm.arpa"
    save_ngram(lm, train_ngram([TEXT, "bad cab"], order=2))
    options = {"decoder": "beam", "lm": lm, "nbest": 4, "beta": 0.5}
    assert transcribe_command(model=tiny_bundle, paths=[good], format="json", **options) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["text"] == row["nbest"][0]["text"] == TEXT
    assert [word["word"] for word in row["words"]] == TEXT.split()
    assert len(row["nbest"]) == 4
    totals = [one["total"] for one in row["nbest"]]
    assert totals == sorted(totals, reverse=True)
    for one in row["nbest"]:
        assert one["total"] == pytest.approx(one["acoustic"] + one["language"], abs=2e-4)
        assert one["acoustic"] < 0


def test_a_lexicon_and_hotwords(bundle: Bundle, many: list[Path], tmp_path: Path) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("\n".join(["bad", "cab", "aa", "dc", "e"]))
    closed = transcribe(model=bundle, paths=many, decoding=DecodingConfig(decoder="beam", lexicon=lexicon))
    assert {word for text in texts(closed) for word in text.split()} <= {"bad", "cab", "aa", "dc", "e"}
    hot = DecodingConfig(decoder="beam", hotwords={"dc": 60.0})
    free = [text.split().count("dc") for text in texts(transcribe(model=bundle, paths=many))]
    pushed = [text.split().count("dc") for text in texts(transcribe(model=bundle, paths=many, decoding=hot))]
    assert sum(pushed) > sum(free)


def test_frames_that_stand_for_more_have_later_times(
    bundle: Bundle, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,) = transcribe(model=bundle, paths=[good])
    monkeypatch.setattr(type(bundle.model), "time_factor", 2, raising=False)
    (slow,) = transcribe(model=bundle, paths=[good])
    assert isinstance(plain, Transcript)
    assert isinstance(slow, Transcript)
    half_a_hop = 0.005
    assert slow.words[0].start + half_a_hop == pytest.approx(2 * (plain.words[0].start + half_a_hop))


def test_logits_that_are_no_numbers_are_the_files_failure(
    bundle: Bundle, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bundle.model,
        "forward",
        lambda inputs, lengths: (torch.full((len(inputs), 9, 7), torch.nan), lengths * 0 + 9),
    )
    (result,) = transcribe(model=bundle, paths=[good])
    assert isinstance(result, Failure)
    assert str(result.error).startswith(f"{good}: the network gives NaN or infinity from frame 0 on; ")


def test_options_that_make_no_sense_are_refused_before_the_work(tiny_bundle: Path, good: Path) -> None:
    with pytest.raises(ConfigError, match="nbest must be at least 1"):
        transcribe_command(model=tiny_bundle, paths=[good], nbest=0)
    with pytest.raises(DataError, match=r"no\.arpa: cannot read the language model"):
        transcribe(
            model=tiny_bundle, paths=[good], decoding=DecodingConfig(decoder="beam", lm=Path("no.arpa"))
        )


def test_the_command_writes_a_file_with_what_could_be_done(
    tiny_bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "texts.tsv"
    missing = tmp_path / "missing.wav"
    assert transcribe_command(model=tiny_bundle, paths=[good, missing], output=output) == 1
    assert output.read_text(encoding="utf-8") == f"{good}\t{TEXT}\n"
    assert capsys.readouterr().out == ""


def test_a_name_with_a_tab_or_a_line_break_is_one_field(
    tiny_bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a\tb\nc é.wav"
    odd.write_bytes(good.read_bytes())
    transcribe_command(model=tiny_bundle, paths=[good, odd])
    _, second = capsys.readouterr().out.splitlines()
    assert second == f"{tmp_path}/a\\tb\\nc é.wav\t{TEXT}"
    transcribe_command(model=tiny_bundle, paths=[odd], format="json")
    assert json.loads(capsys.readouterr().out)["path"] == str(odd)


def test_a_name_that_is_not_utf8_is_the_files_failure(bundle: Bundle, good: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    odd.write_bytes(good.read_bytes())
    first, second = transcribe(model=bundle, paths=[odd, good])
    assert second.text == TEXT  # type: ignore[union-attr]
    assert "\n" not in str(first.error)  # type: ignore[union-attr]


def test_nor_does_the_command_stumble_over_it(
    tiny_bundle: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    assert main(["transcribe", "--model", str(tiny_bundle), odd, str(good)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{good}\t{TEXT}\n"
    assert printed.err.count("\n") == 1
    for option in (["--output", f"{odd}.txt"], [f"--output={odd}.txt"]):
        assert main(["transcribe", "--model", str(tiny_bundle), *option, str(good)]) == 0
        written = Path(f"{odd}.txt")
        assert written.read_text() == f"{TEXT}\n"
        written.unlink()


def test_an_output_that_cannot_be_written_is_one_line(tiny_bundle: Path, good: Path) -> None:
    output = good / "below-a-file.txt"
    with pytest.raises(DataError) as caught:
        transcribe_command(model=tiny_bundle, paths=[good], output=output)
    assert str(caught.value).startswith(f"{output}: cannot write here (")
    assert "\n" not in str(caught.value)


def test_importing_takes_nothing_slow_along() -> None:
    command = "import sys, asr_lstm.transcribe; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert {"lightning", "librosa", "matplotlib", "jiwer", "numba"}.isdisjoint(run.stdout.split())
