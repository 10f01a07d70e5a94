"""Synthetic speech to begin with."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from asr_lstm.audio import load_utterance
from asr_lstm.batching import DataConfig
from asr_lstm.bootstrap import (
    DROPOUT,
    SPEED,
    VOCAL_TRACT,
    BootstrapConfig,
    bootstrap_notes,
    bootstrap_recipe,
    speak_transcripts,
)
from asr_lstm.bundle import load_bundle
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.experiment import Experiment
from asr_lstm.features import FeatureConfig
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.model import EncoderConfig
from asr_lstm.schedule import TrainingConfig
from asr_lstm.stages import Stages

pytest.importorskip("espeakng_loader", reason="needs pip install 'asr_lstm[synthetic]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")

RATE = 8000
TEXTS = ["one two", "three four five", "two one", "four three", "five five one", "two four"]
HELD_OUT = ["five one three", "four four"]


def load(utterance: Utterance) -> np.ndarray:
    return load_utterance(utterance, rate=RATE)


def recipe(**options: object) -> Recipe:
    return Recipe(
        name="tiny",
        corpus=CorpusConfig(prepare="nothing"),
        features=FeatureConfig(rate=RATE, mels=10),
        encoder=EncoderConfig(layers=1, hidden=8, layer_dropout=0.3, state_dropout=0.3),
        training=TrainingConfig(epochs=1, learning_rate=1e-9),
        bootstrap=BootstrapConfig(hours=0.01),
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def manifests(tmp_path: Path, synthetic_speech: Callable) -> dict[str, Path]:
    paths = {}
    for split, texts in (("train", TEXTS), ("dev", HELD_OUT)):
        rows = []
        for index, text in enumerate(texts):
            path = tmp_path / f"{split}{index}.wav"
            samples = synthetic_speech("abcd" * 4, seed=index)  # whatever: nothing is to be learned
            soundfile.write(path, samples, RATE, subtype="FLOAT")
            rows.append(Utterance(path, text, len(samples) / RATE))
        paths[split] = tmp_path / f"{split}.jsonl"
        write_manifest(paths[split], rows)
    return paths


def experiment(settings: Recipe, folder: Path) -> Experiment:
    console = Console(file=io.StringIO(), width=200)
    return Experiment(settings, folder, load=load, command="test", console=console)


def kill_at_the_end(folder: Path) -> None:
    """Leave an experiment as if it had been killed when its training was nearly done."""
    for name in ("finished", "ended"):
        for path in (folder / "checkpoints").glob(f"*/{name}"):
            path.unlink()


def test_training_begins_from_a_model_of_the_training_transcripts(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    folder = tmp_path / "exp"
    experiment(recipe(), folder).train(manifests)
    spoken = read_manifest(folder / "bootstrap" / "manifests" / "train.jsonl")
    assert {utterance.text for utterance in spoken} <= set(TEXTS)
    assert sum(utterance.duration for utterance in spoken) == pytest.approx(36, rel=0.5)
    first, model = load_bundle(folder / "bootstrap" / "model"), load_bundle(folder / "model")
    # At a learning rate of nearly nothing, what it began from is what it ends with.
    for name, value in first.model.encoder.state_dict().items():
        assert value.allclose(model.model.encoder.state_dict()[name], atol=1e-5), name

    before = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    experiment(recipe(), folder).train(manifests)  # nothing is done twice
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == before

    record = experiment(recipe(), folder).stages.record("train")
    first_record = Stages(folder / "bootstrap" / "stages.json").record("train")
    assert record["bootstrap_seconds"] == first_record["train_seconds"] > 0
    assert record["train_seconds"] > record["bootstrap_seconds"]

    shutil.rmtree(folder / "bootstrap")  # the speech takes much room, and is not needed any more
    before = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    experiment(recipe(), folder).train(manifests)
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert not (folder / "bootstrap").exists()


def test_the_same_speech_can_be_learned_from_in_another_way(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    folder = tmp_path / "exp"
    experiment(recipe(), folder).train(manifests)
    speech = folder / "bootstrap" / "manifests" / "train.jsonl"
    before = speech.stat().st_mtime_ns
    otherwise = replace(recipe(), bootstrap=replace(recipe().bootstrap, learning_rate=1e-8))
    experiment(otherwise, folder).train(manifests)
    assert speech.stat().st_mtime_ns == before


def test_other_settings_do_not_touch_what_an_interrupted_training_began_from(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    folder = tmp_path / "exp"
    experiment(recipe(), folder).train(manifests)
    kill_at_the_end(folder)
    (folder / "stages.json").unlink()
    before = (folder / "bootstrap" / "model" / "model.safetensors").stat().st_mtime_ns
    settings = recipe()
    for otherwise in (
        replace(settings, training=replace(settings.training, patience=9)),
        replace(settings, bootstrap=replace(settings.bootstrap, learning_rate=1e-8)),
    ):
        with pytest.raises(ConfigError, match=r"patience: 5 then, 9 now|learning_rate: 0.003 then"):
            experiment(otherwise, folder).train(manifests)
        assert (folder / "bootstrap" / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_other_synthetic_speech_does_not_take_the_place_of_what_is_being_learned_from(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    folder = tmp_path / "exp"
    experiment(recipe(), folder).train(manifests)
    kill_at_the_end(folder / "bootstrap")
    shutil.rmtree(folder / "checkpoints")
    (folder / "stages.json").unlink()
    voices = folder / "bootstrap" / "manifests" / "audio"
    before = sorted(voices.iterdir())
    experiment(recipe(), folder).check_unfinished(manifests)
    otherwise = replace(recipe(), bootstrap=replace(recipe().bootstrap, hours=0.02))
    with pytest.raises(ConfigError, match="learning from other synthetic speech is not done"):
        experiment(otherwise, folder).check_unfinished(manifests)
    with pytest.raises(ConfigError, match="learning from other synthetic speech is not done"):
        experiment(otherwise, folder).train(manifests)
    assert sorted(voices.iterdir()) == before


def test_synthetic_speech_that_was_removed_is_made_again(tmp_path: Path, manifests: dict[str, Path]) -> None:
    folder = tmp_path / "exp"
    experiment(recipe(), folder).train(manifests)
    shutil.rmtree(folder / "bootstrap" / "manifests" / "audio")
    otherwise = replace(recipe(), encoder=replace(recipe().encoder, hidden=6))
    experiment(otherwise, folder).train(manifests)
    assert load_bundle(folder / "model").model.encoder.output_size == 12


def test_long_transcripts_are_spoken_in_pieces(tmp_path: Path) -> None:
    long = " ".join(TEXTS * 6)
    config = BootstrapConfig(hours=0.005)
    made = speak_transcripts(config, [long], output=tmp_path, seed=1)
    rows = read_manifest(made.manifests["train"])
    assert all(row.text in long and len(row.text) < len(long) / 2 for row in rows)
    with pytest.raises(DataError, match=r"bootstrap\.hours 0 does without"):
        speak_transcripts(config, ["1"], output=tmp_path / "none", seed=1)


def test_what_the_first_training_has_otherwise() -> None:
    settings = recipe()
    first = bootstrap_recipe(settings)
    assert first.bootstrap.hours == 0
    assert (first.augment.speed, first.augment.vocal_tract) == (SPEED, VOCAL_TRACT)
    assert (first.encoder.layer_dropout, first.encoder.state_dropout) == (DROPOUT, DROPOUT)
    every_kind = replace(
        settings,
        encoder=EncoderConfig(
            input_dropout=0.1, step_dropout=0.3, candidate_dropout=0.3, weight_dropout=0.3, zoneout_cell=0.1
        ),
    )
    others = EncoderConfig(layer_dropout=DROPOUT, state_dropout=DROPOUT)
    assert bootstrap_recipe(every_kind).encoder == others
    assert first.training.learning_rate == settings.bootstrap.learning_rate
    assert first.features == settings.features
    hasty = replace(settings, bootstrap=replace(settings.bootstrap, max_minutes=2.0))
    assert bootstrap_recipe(hasty).training.max_minutes == 2  # and not the minutes of the recordings
    late = replace(
        settings, training=replace(settings.training, errors=0.9, dropout_epochs=9, consistency=0.2)
    )
    first_of_late = bootstrap_recipe(late).training
    assert (first_of_late.errors, first_of_late.dropout_epochs, first_of_late.consistency) == (0, 0, 0)
    sharded = replace(settings, data=DataConfig(shards_at_once=4))
    assert bootstrap_recipe(sharded).data.shards_at_once == 0  # synthetic speech lies in none


def test_what_does_not_go_together_is_refused(tmp_path: Path, manifests: dict[str, Path]) -> None:
    settings = recipe()
    both = replace(settings, training=replace(settings.training, init="other"))
    with pytest.raises(ConfigError, match=r"bootstrap\.hours: the recipe begins from training\.init"):
        experiment(both, tmp_path / "exp").train(manifests)
    frames = replace(
        settings,
        features=FeatureConfig(kind="frames", dims=3),
        corpus=CorpusConfig(prepare="nothing", load="somewhere.load"),
    )
    with pytest.raises(ConfigError, match=r"bootstrap\.hours: speech is no frames"):
        experiment(frames, tmp_path / "exp").train(manifests)
    sharded = replace(
        settings, bootstrap=BootstrapConfig(hours=0.01, how="fade"), data=DataConfig(shards_at_once=4)
    )
    with pytest.raises(ConfigError, match=r"data\.shards_at_once: .* fade lies in no shards; say 0"):
        experiment(sharded, tmp_path / "exp").train(manifests)


@pytest.mark.parametrize("name", ["hours", "epochs", "learning_rate", "batch_seconds", "max_minutes"])
def test_settings_that_make_no_sense(name: str) -> None:
    with pytest.raises(ValueError, match=rf"bootstrap\.{name} must"):
        BootstrapConfig(**{name: -1})  # type: ignore[arg-type]


def test_synthetic_speech_mixed_in_is_learned_from_beside_the_recordings(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    folder = tmp_path / "exp"
    mixed = replace(recipe(), bootstrap=BootstrapConfig(hours=0.01, how="mix", silence=(0.0, 0.1)))
    first = experiment(mixed, folder)
    first.train(manifests)
    rows = read_manifest(folder / "bootstrap" / "manifests" / "mixed.jsonl")
    real = [row for row in rows if not row.extra.get("synthetic")]
    assert [row.path for row in real] == [row.path for row in read_manifest(manifests["train"])]
    assert len(rows) > 2 * len(real)
    assert not (folder / "bootstrap" / "model").exists()  # nothing is learned from it alone
    hours = first.stages.record("train")["train_hours_of_audio"]
    assert hours == pytest.approx(sum(row.duration for row in rows) / 3600, rel=0.01)

    results = first.score(manifests, first.decode(manifests), notes=[])
    assert results.notes[0] == "training counts 0.01 h of SYNTHETIC speech by espeak-ng (en)"


def test_synthetic_speech_that_fades_is_heard_in_the_first_epochs_alone(
    tmp_path: Path, manifests: dict[str, Path]
) -> None:
    read: list[str] = []

    def note(utterance: Utterance) -> np.ndarray:
        read.append(utterance.path.parent.name)
        return load(utterance)

    def trained(epochs: int) -> int:
        read.clear()
        settings = replace(
            recipe(),
            bootstrap=BootstrapConfig(hours=0.01, how="fade", epochs=epochs),
            data=DataConfig(cache_gib=0.0),
        )
        settings = replace(settings, training=replace(settings.training, epochs=2))
        first = experiment(settings, tmp_path / "exp")
        first.load = note
        first.train(manifests)
        return sum(name != tmp_path.name for name in read)

    once, twice = trained(1), trained(2)
    spoken = len(read_manifest(tmp_path / "exp" / "bootstrap" / "manifests" / "train.jsonl"))
    assert (twice - once, trained(2)) == (
        round(spoken / 2),
        0,
    )  # other epochs are another training, the same is none
    for minutes, more in ((0.0, ""), (6.5, ", or what 6.5 minutes were enough for")):
        said = f"training began with 2 h of SYNTHETIC speech by espeak-ng (en){more}"
        assert bootstrap_notes(BootstrapConfig(hours=2, max_minutes=minutes)) == [said]
    config = BootstrapConfig(hours=0.5, how="fade", epochs=3)
    assert bootstrap_notes(config) == [
        "training counts 0.5 h of SYNTHETIC speech by espeak-ng (en), of which each epoch heard less, "
        "and none after epoch 3"
    ]


def test_pauses_around_what_is_said_are_as_asked(tmp_path: Path, manifests: dict[str, Path]) -> None:
    def seconds(silence: tuple[float, float]) -> float:
        config = BootstrapConfig(hours=0.005, silence=silence)
        made = speak_transcripts(config, ["two four"], output=tmp_path / str(silence), seed=1)
        rows = read_manifest(made.manifests["train"])
        return sum(row.duration for row in rows) / len(rows)

    assert seconds((1.0, 1.0)) - seconds((0.0, 0.0)) == pytest.approx(2.0, abs=0.2)


def test_voices_are_as_quick_as_asked(tmp_path: Path, manifests: dict[str, Path]) -> None:
    def seconds(rate: int) -> float:
        config = BootstrapConfig(hours=0.005, silence=(0.0, 0.0), words_a_minute=(rate, rate))
        made = speak_transcripts(config, ["two four six one"], output=tmp_path / str(rate), seed=1)
        rows = read_manifest(made.manifests["train"])
        return sum(row.duration for row in rows) / len(rows)

    assert seconds(100) > 1.5 * seconds(240)


@pytest.mark.parametrize(("name", "values"), [("silence", (0.5, 0.1)), ("words_a_minute", (20, 100))])
def test_ranges_that_make_no_sense(name: str, values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"bootstrap\.{name} must be two numbers"):
        BootstrapConfig(**{name: values})  # type: ignore[arg-type]
