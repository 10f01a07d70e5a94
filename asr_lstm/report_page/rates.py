"""Where the errors are: rates by speaker, by length and by level of the signal, each with its interval."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import READING_ERRORS
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.pages import Markup, bar_chart, details, joined, paragraph, table
from asr_lstm.pages.axes import number
from asr_lstm.report import Results
from asr_lstm.report_page.source import SplitData
from asr_lstm.scoring import Scores, score

MAX_BARS = 20  # speakers in the chart, the worst; the table below it has all
MAX_SPEAKERS = 1000  # in the table
SAMPLE = 300  # utterances whose level is measured: their rate is then known to about a tenth of itself
LEVEL_SECONDS = 30.0  # of an utterance, at most, that are read for its level
LENGTH_EDGES = (0.0, 1.0, 2.0, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0)  # s
LEVEL_EDGES = (-np.inf, -45.0, -40.0, -35.0, -30.0, -25.0, -20.0, -15.0, -10.0)  # dB of full scale
SNR_EDGES = (-np.inf, 10.0, 20.0, 30.0, 40.0, 50.0)  # dB
_FRAME_SECONDS = 0.025  # over which energy is averaged: longer than a pitch period, shorter than a sound
_SILENCE = 1e-10  # energy of nothing at all, -100 dB of full scale


@dataclass(frozen=True)
class Group:
    """Some utterances of a split that have something in common, and their scores."""

    name: str
    scores: Scores


def group_scores(
    data: SplitData, keys: Sequence[Hashable], names: Callable[..., str] = str, *, seed: int
) -> list[Group]:
    """Score the utterances of each key by themselves.

    Args:
        data: the split.
        keys: one an utterance; None leaves it out.
        names: makes a group's name of its key.
        seed: of the bootstrap.

    Returns:
        The groups in the order of their keys.
    """
    members: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        if key is not None:
            members.setdefault(key, []).append(index)
    groups = []
    for key in sorted(members):  # type: ignore[type-var]  # keys of one kind
        chosen = members[key]
        scores = score(
            [data.references[index] for index in chosen],
            [data.hypotheses[index] for index in chosen],
            groups=[data.utterances[index].speaker for index in chosen],
            seed=seed,
        )
        groups.append(Group(names(key), scores))
    return groups


def split_rates(results: Results) -> Markup:
    """A chart of all splits and decoders."""
    rows = [
        (split if len(decoders) == 1 else f"{split} {decoder}", row)
        for split, decoders in results.splits.items()
        for decoder, row in decoders.items()
    ]
    return bar_chart(
        [name for name, _ in rows],
        [100 * row.wer for _, row in rows],
        low=[100 * row.wer_low for _, row in rows],
        high=[100 * row.wer_high for _, row in rows],
        notes=[f"{number(row.words)} words" for _, row in rows],
        unit="%",
        title="WER by split",
        caption="with 95 % intervals, as in all charts here",
    )


def speaker_rates(data: SplitData, *, seed: int) -> Markup:
    """A chart of the worst speakers and a table of all."""
    if not any(utterance.speaker for utterance in data.utterances):
        return paragraph("By speaker: the manifest names no speakers.", style="faint")
    names = [utterance.speaker for utterance in data.utterances]
    groups = group_scores(data, names, lambda name: name or "unknown", seed=seed)
    groups.sort(key=lambda group: -group.scores.wer)
    total = len(groups)
    caption = f"the {MAX_BARS} worst of {total} speakers" if total > MAX_BARS else "worst first"
    chart = group_chart(groups[:MAX_BARS], title="WER by speaker", caption=caption)
    if total <= MAX_BARS:
        return chart
    rows = [
        (group.name, *_rate_cells(group.scores), number(group.scores.words), number(group.scores.utterances))
        for group in groups[:MAX_SPEAKERS]
    ]
    all_of_them = table(("speaker", "WER %", "interval", "words", "utterances"), rows, align="lrrrr")
    summary = (
        f"All {total} speakers" if total <= MAX_SPEAKERS else f"The {MAX_SPEAKERS} worst of {total} speakers"
    )
    return joined([chart, details(summary, all_of_them)])


def length_rates(data: SplitData, *, seed: int) -> Markup:
    """A chart by the length of the utterance."""
    lengths = np.array([utterance.duration for utterance in data.utterances])
    groups = _binned(data, lengths, LENGTH_EDGES, unit="s", seed=seed)
    return group_chart(groups, title="WER by length of the utterance")


def level_rates(data: SplitData, *, load: Loader | None, rate: int, seed: int) -> Markup:
    """Charts by loudness and by signal-to-noise ratio, of a sample of the utterances.

    Args:
        data: the split.
        load: reads an utterance's audio; None where the model hears no audio.
        rate: of that audio in Hz.
        seed: of the sample and the bootstrap.
    """
    if load is None:
        return paragraph("By level of the signal: the model's inputs are not audio.", style="faint")
    total = len(data.utterances)
    chosen = sorted(random.Random(seed).sample(range(total), min(total, SAMPLE)))
    levels = np.full((2, total), np.nan)
    failures = []
    for index in chosen:
        try:
            levels[:, index] = signal_levels(load(_beginning(data.utterances[index])), rate=rate)
        except READING_ERRORS as error:
            failures.append(str(error))
    read = len(chosen) - len(failures)
    if not read:
        return paragraph(f"By level of the signal: no audio could be read ({failures[0]}).", style="faint")
    sampled = (
        f"a sample of {read} of {len(data.utterances)} utterances" if read < len(data.utterances) else ""
    )
    loudness = _binned(data, levels[0], LEVEL_EDGES, unit="dB", seed=seed)
    ratio = _binned(data, levels[1], SNR_EDGES, unit="dB", seed=seed)
    return joined(
        [
            group_chart(loudness, title="WER by loudness of the speech, dB of full scale", caption=sampled),
            group_chart(ratio, title="WER by signal-to-noise ratio, estimated", caption=sampled),
        ]
    )


def signal_levels(samples: NDArray[np.float32], *, rate: int) -> tuple[float, float]:
    """Loudness and an estimate of the signal-to-noise ratio, both in dB.

    The loudness is the mean energy of the louder half of the frames of 25 ms, where full scale is 0 dB. The ratio
    is that of the 90th to the 10th percentile of the frames' energies: of speech to what lies between the words.

    Args:
        samples: (samples,) in [-1, 1].
        rate: in Hz.
    """
    size = max(1, round(_FRAME_SECONDS * rate))
    count = max(1, len(samples) // size)
    frames = samples[: count * size].astype(np.float64).reshape(count, -1)
    energies = np.sort(np.square(frames).mean(axis=1)) + _SILENCE
    loud, low, high = energies[count // 2 :].mean(), *np.quantile(energies, (0.1, 0.9))
    return 10 * float(np.log10(loud)), 10 * float(np.log10(high / low))


def group_chart(groups: Sequence[Group], *, title: str, caption: str = "") -> Markup:
    """Bars of word error rates with intervals and how many words they rest on."""
    scores = [group.scores for group in groups]
    return bar_chart(
        [group.name for group in groups],
        [100 * item.wer for item in scores],
        low=[100 * item.wer_low for item in scores],
        high=[100 * item.wer_high for item in scores],
        notes=[f"{number(item.words)} words" for item in scores],
        unit="%",
        title=title,
        caption=caption,
    )


def _binned(
    data: SplitData, values: NDArray[np.float64], edges: Sequence[float], *, unit: str, seed: int
) -> list[Group]:
    """Scores of the utterances whose value lies between two edges; the last bin is open, NaN lies nowhere."""
    bins = [
        None if np.isnan(value) else int(np.searchsorted(edges, value, side="right")) - 1 for value in values
    ]
    names = [f"{_bound(low)} to {_bound(high)} {unit}" for low, high in pairwise(edges)]
    names = [f"below {_bound(edges[1])} {unit}" if edges[0] in (-np.inf, 0) else names[0], *names[1:]]
    names.append(f"{_bound(edges[-1])} {unit} and more")
    return group_scores(data, bins, lambda key: names[key], seed=seed)


def _bound(edge: float) -> str:
    return number(edge) if np.isfinite(edge) else ""


def _beginning(utterance: Utterance) -> Utterance:
    return replace(utterance, duration=min(utterance.duration, LEVEL_SECONDS))


def _rate_cells(scores: Scores) -> tuple[str, str]:
    return f"{100 * scores.wer:.1f}", f"{100 * scores.wer_low:.1f} to {100 * scores.wer_high:.1f}"
