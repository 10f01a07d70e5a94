from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_dev import make_dev, make_lm

from asr_lstm.bundle import load_bundle
from asr_lstm.crossfit import cross_fit, speaker_folds
from asr_lstm.decoding.decoders import make_decoders
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import Tuned
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance
from asr_lstm.recognise import recognise_each
from asr_lstm.report import Results
from asr_lstm.tuning import tune_bundle

# audioread's reader of WAV imports modules that Python 3.13 drops (it then brings its own).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:audioread")


def spoken(*speakers: str) -> list[Utterance]:
    return [Utterance(Path(f"{index}.wav"), "", 1.0, speaker=name) for index, name in enumerate(speakers)]


def test_no_speaker_is_in_two_folds_and_folds_are_even() -> None:
    rows = spoken(*"aababccddd")
    folds = speaker_folds(rows, 2)
    assert sorted(index for part in folds for index in part) == list(range(10))
    first, second = ({rows[index].speaker for index in part} for part in folds)
    assert not first & second
    assert sorted(map(len, folds)) == [5, 5]


def test_unknown_speakers_are_nobodys() -> None:
    assert speaker_folds(spoken("", "", "", ""), 2) == [[0, 2], [1, 3]]
    assert speaker_folds(spoken("a", "", "a"), 2) == [[0, 2], [1]]


def test_too_few_speakers_or_folds() -> None:
    with pytest.raises(DataError, match="2 speakers cannot be parted into 3 folds"):
        speaker_folds(spoken("a", "b", "a", "b"), 3)
    with pytest.raises(ValueError, match="folds must be at least 2, not 1"):
        speaker_folds(spoken("a", "b"), 1)


def test_each_fold_is_recognised_with_what_the_others_found(
    tiny_bundle: Path, tmp_path: Path, synthetic_speech: Callable
) -> None:
    rows = make_dev(tmp_path, synthetic_speech)
    bundle = load_bundle(tiny_bundle)
    stale = Tuned({"beam+ngram": {"alpha": 5.0, "beta": -9.0}})
    decoding = DecodingConfig(decoder="beam", lm=make_lm(tmp_path), beam=8, alpha=7.0)
    about = Results("model", 0, "command", "device", 1, bundle.parameters)
    found = cross_fit(replace(bundle, tuned=stale), rows, decoding, folds=2, split="dev", about=about)

    texts, confidences, used = [""] * len(rows), [0.0] * len(rows), []
    options = replace(decoding, alpha=None)
    for part in speaker_folds(rows, 2):
        tuned = tune_bundle(
            bundle, [row for row in rows if row not in [rows[i] for i in part]], options
        ).tuned
        decoders = make_decoders(options, bundle.units, tuned)
        own = [rows[index] for index in part]
        heard = recognise_each(bundle, own, decoders, confidences=True)["beam+ngram"]
        for index, item in zip(part, heard.items, strict=True):
            texts[index], confidences[index] = item.text, sum(item.confidences)
        used.append(dict(tuned.weights["beam+ngram"]))
    assert found.results.notes[0].startswith("dev: in 2 folds by speaker;")
    assert found.splits["beam+ngram"].hypotheses == texts
    assert found.splits["beam+ngram"].ids == [row.id for row in rows]
    figures = found.results.metrics["decoders"]["dev"]["beam+ngram"]
    kept = [{name: one[name] for name in ("alpha", "beta")} for one in figures["weights"]]
    assert kept == used
    assert used[0] != used[1]
    assert figures["confidence"]["words"] == sum(len(text.split()) for text in texts)
    assert found.results.splits["dev"]["beam+ngram"].rtf > 0
