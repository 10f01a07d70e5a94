"""What decoders are worth on a dev set on which they were tuned: each part scored with what the others found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from asr_lstm.bundle import Bundle
from asr_lstm.decoding.decoders import Decoder, beam_weights, make_decoders
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import Tuned
from asr_lstm.errors import DataError
from asr_lstm.evaluate import Evaluation, score_decoders
from asr_lstm.manifest import Utterance
from asr_lstm.recognise import Recognition, Recognitions, recognise_each
from asr_lstm.report import Results
from asr_lstm.tuning import tune_bundle


def cross_fit(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    decoding: DecodingConfig,
    *,
    folds: int,
    split: str,
    about: Results,
    **options: Any,
) -> Evaluation:
    """Score the decoders on a dev set with weights and calibrations that each fold took from the other folds.

    Rates on the utterances that weights were chosen by are too good. Here no utterance is recognised with weights
    that it, or another of its speaker, had a part in; all of them are scored together.

    Args:
        bundle: the model; what was tuned for it before is left out of account.
        utterances: of a dev set, with their speakers where these are known.
        decoding: with the models to tune; its own weights are left out of account.
        folds: how many, 2 or more.
        split: name of the dev set.
        about: as of `score_decoders`.
        **options: as of `tune_bundle`.

    Raises:
        ValueError: fewer than 2 folds.
        DataError: fewer speakers than folds; or as `tune_bundle`.
    """
    parts = speaker_folds(utterances, folds)
    config = replace(decoding, alpha=None, beta=None, lstm_weight=None)
    decoders: list[Decoder] = []
    found: dict[str, list[tuple[list[int], Recognitions]]] = {name: [] for name in config.decoders}
    weights: dict[str, list[Mapping[str, float]]] = {name: [] for name in config.decoders}
    for part in parts:
        within = set(part)
        others = [row for index, row in enumerate(utterances) if index not in within]
        tuned = tune_bundle(replace(bundle, tuned=Tuned()), others, config, **options).tuned
        decoders = make_decoders(config, bundle.units, tuned)
        rows = [utterances[index] for index in part]
        for name, one in recognise_each(bundle, rows, decoders, confidences=True, **options).items():
            found[name].append((part, one))
            weights[name].append(beam_weights(name, config, tuned))
    return score_decoders(
        decoders,
        {name: _joined(ones) for name, ones in found.items()},
        utterances,
        normaliser=bundle.units.normaliser,
        weights=weights,
        split=split,
        about=replace(about, notes=[*about.notes, _note(split, folds, utterances)]),
    )


def speaker_folds(utterances: Sequence[Utterance], folds: int) -> list[list[int]]:
    """The utterances' indices in so many parts of about the same length, no speaker in two of them.

    An utterance whose speaker is unknown stands for itself.

    Raises:
        ValueError: fewer than 2 folds.
        DataError: fewer speakers than folds.
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, not {folds}")
    numbers = itertools.count()
    groups: dict[object, list[int]] = {}
    for index, utterance in enumerate(utterances):
        groups.setdefault(utterance.speaker or next(numbers), []).append(index)
    if len(groups) < folds:
        raise DataError(f"{len(groups)} speakers cannot be parted into {folds} folds; use more data")
    parts: list[list[int]] = [[] for _ in range(folds)]
    for group in sorted(groups.values(), key=len, reverse=True):  # the large ones first: the rest evens out
        min(parts, key=len).extend(group)
    return [sorted(part) for part in parts]


def _joined(found: Sequence[tuple[list[int], Recognitions]]) -> Recognitions:
    """The recognitions of all folds, in the order of the whole."""
    items: dict[int, Recognition] = {}
    for part, recognitions in found:
        for index, item in zip(part, recognitions.items, strict=True):
            items[index] = replace(item, index=index)
    return Recognitions(
        [items[index] for index in sorted(items)],
        seconds=sum(one.seconds for _, one in found),
        audio_seconds=sum(one.audio_seconds for _, one in found),
    )


def _note(split: str, folds: int, utterances: Sequence[Utterance]) -> str:
    known = all(utterance.speaker for utterance in utterances)
    by = "speaker" if known else "utterance, since not every speaker is known"
    return (
        f"{split}: in {folds} folds by {by}; the weights and calibrations used for each are from the others."
    )
