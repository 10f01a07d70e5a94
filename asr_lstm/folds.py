"""Cross-validation: a model for each fold, their tests scored one by one and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asr_lstm.config import RECIPE_NAME, write_settings
from asr_lstm.corpora import Prepared
from asr_lstm.decoded import decode_stage, write_recognitions
from asr_lstm.experiment import Experiment
from asr_lstm.manifest import read_manifest, write_manifest
from asr_lstm.model_card import model_card
from asr_lstm.model_files import write_card
from asr_lstm.recognise import Recognitions
from asr_lstm.stages import content_digest

FOLD_NOTE = (
    "test and test-*: each recognised by the model of its own fold, which was trained without it; "
    "the model that is kept was trained on all of them."
)


@dataclass(frozen=True)
class FoldTests:
    """What the folds were tested on, for the results of the whole.

    Attributes:
        manifests: of `test-NAME` for each fold, and of `test` for all together.
        decoded: what was recognised in each of them.
        trained: by fold, how its training went.
    """

    manifests: dict[str, Path] = field(default_factory=dict)
    decoded: dict[str, Path] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)


def run_folds(experiment: Experiment, folds: Mapping[str, Prepared]) -> FoldTests:
    """Train and test each fold below `folds/NAME`, and bring its test to the experiment's own splits.

    A fold that is done is skipped; one that was interrupted goes on.

    Args:
        experiment: of the whole recipe.
        folds: by name; none gives nothing.
    """
    tests = FoldTests()
    done: list[Experiment] = []
    for number, (name, prepared) in enumerate(folds.items(), start=1):
        experiment.console.print(f"fold {number} of {len(folds)}: {name}", highlight=False)
        fold = experiment.fold(name)
        write_settings(fold.folder / RECIPE_NAME, fold.recipe)
        fold.train(prepared.manifests)
        decoded = fold.decode(prepared.manifests)
        results = fold.score(prepared.manifests, decoded, notes=prepared.notes)
        write_card(fold.model, model_card(results, experiment.recipe))
        trained = fold.stages.record("train")
        tests.trained[name] = {key: trained[key] for key in ("train_seconds", "best_dev_wer")}
        done.append(fold)
        _adopt(experiment, f"test-{name}", [fold], tests)
    if done:
        _adopt(experiment, "test", done, tests)
    return tests


def _adopt(experiment: Experiment, split: str, folds: Sequence[Experiment], tests: FoldTests) -> None:
    """Join the tests of some folds to one split of the experiment."""
    tests.manifests[split] = experiment.manifest_path(split)
    tests.decoded[split] = experiment.decoded_path(split)
    utterances = [utterance for fold in folds for utterance in read_manifest(fold.manifest_path("test"))]
    manifests = [content_digest(fold.manifest_path("test")) for fold in folds]
    for decoder in experiment.decoding.decoders:
        stage = decode_stage(split, decoder)
        texts = [content_digest(fold.decoded_path("test", decoder)) for fold in folds]
        speeds = [fold.stages.record(decode_stage("test", decoder)) for fold in folds]
        key = {"manifests": manifests, "texts": texts, "speeds": speeds}
        if experiment.stages.done(stage, key) is not None:
            continue
        items = [item for fold in folds for item in fold.recognitions("test", decoder).items]
        joined = Recognitions(
            [replace(item, index=index) for index, item in enumerate(items)],
            seconds=sum(speed["seconds"] for speed in speeds),
            audio_seconds=sum(speed["audio_seconds"] for speed in speeds),
        )
        write_manifest(tests.manifests[split], utterances)
        path = experiment.decoded_path(split, decoder)
        write_recognitions(path, joined)
        record = {"seconds": joined.seconds, "audio_seconds": joined.audio_seconds}
        experiment.stages.finish(stage, key, record, outputs=[tests.manifests[split], path])
