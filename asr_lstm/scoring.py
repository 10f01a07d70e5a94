"""Word and character error rates with the interval that their size of test set deserves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval in the toolkit
SPEAKERS_FOR_BOOTSTRAP = 10  # fewer distinct speakers repeat too often in a resample to stand for new ones
RESAMPLES = 1000  # the interval's own ends then move by about a tenth of its width from seed to seed
_TAIL = (1 - LEVEL) / 2
_DRAWS_AT_ONCE = 1 << 21  # 16 MiB of indices

IntervalKind = Literal["speaker bootstrap", "utterance bootstrap", "exact binomial"]
EditKind = Literal["equal", "substitute", "delete", "insert"]
Counts = NDArray[np.int64]
_WRONG: tuple[EditKind, ...] = ("substitute", "delete", "insert")


@dataclass(frozen=True)
class Edit:
    """One column of an alignment; the side that lacks a word (insertion, deletion) has ""."""

    kind: EditKind
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class ErrorCounts:
    """Levenshtein counts of each utterance, every array `(utterances,)`; `length` is the reference's."""

    substitutions: Counts
    deletions: Counts
    insertions: Counts
    length: Counts

    @property
    def errors(self) -> Counts:
        """All errors of each utterance, `(utterances,)`."""
        return self.substitutions + self.deletions + self.insertions


@dataclass(frozen=True)
class Scores:
    """Error rates of a test set, as fractions, with 95 % intervals.

    Attributes:
        wer: word errors over reference words; above 1 where much was inserted.
        wer_low: lower end of its interval.
        wer_high: upper end of its interval.
        cer: character errors over reference characters, spaces among them.
        cer_low: lower end of its interval.
        cer_high: upper end of its interval.
        words: in the references.
        characters: in the references, with spaces.
        utterances: how many were scored.
        substitutions: words taken for others.
        deletions: words missed.
        insertions: words that nobody said.
        interval: how the interval of the word error rate was found.
    """

    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    words: int
    characters: int
    utterances: int
    substitutions: int
    deletions: int
    insertions: int
    interval: IntervalKind


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scores:
    """Score hypotheses that were normalised as their references were: nothing is changed here.

    An empty reference counts each word of its hypothesis as an insertion. Where no reference holds a word the
    rate is the number of insertions (as in jiwer), so that it is 0 for silence and finite for anything else.

    The intervals are percentile bootstraps (Bisani & Ney 2004, "Bootstrap estimates for confidence intervals
    in ASR performance evaluation", ICASSP): speakers, or utterances, are drawn with replacement, and errors
    and words are summed before they are divided. Speakers are drawn where all are known and at least ten,
    because the errors of one speaker go together. Where the resamples cannot vary (no error at all, a single
    utterance, every word wrong) the interval is the exact binomial one (Clopper & Pearson 1934, two-sided,
    2.5 % on each side) over words as if independent: with no error in n words it ends at 1 - 0.025**(1/n).

    Args:
        references: what was said.
        hypotheses: what was recognised, in the same order.
        groups: the speaker of each utterance; "" for unknown.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: nothing to score, or arguments of different lengths.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be positive, not {resamples}")
    words = count_errors(references, hypotheses)
    characters = count_errors(references, hypotheses, by="character")
    clusters, kind = _clusters(len(references), groups)
    wer_low, wer_high, varied = _interval(words, clusters, seed=seed, resamples=resamples)
    cer_low, cer_high, _ = _interval(characters, clusters, seed=seed, resamples=resamples)
    return Scores(
        wer=_rate(words.errors.sum(), words.length.sum()),
        wer_low=wer_low,
        wer_high=wer_high,
        cer=_rate(characters.errors.sum(), characters.length.sum()),
        cer_low=cer_low,
        cer_high=cer_high,
        words=int(words.length.sum()),
        characters=int(characters.length.sum()),
        utterances=len(references),
        substitutions=int(words.substitutions.sum()),
        deletions=int(words.deletions.sum()),
        insertions=int(words.insertions.sum()),
        interval=kind if varied else "exact binomial",
    )


def summed_rates(wer: float, cer: float) -> float:
    """What is lowest in the best epoch of a training: the sum of both error rates.

    By words alone a model that writes next to nothing, and so has hardly more than all of them wrong, would be better
    than one that has half of the letters right.
    """
    return wer + cer


def count_errors(
    references: Sequence[str], hypotheses: Sequence[str], *, by: Literal["word", "character"] = "word"
) -> ErrorCounts:
    """Count the errors of each utterance; characters include spaces.

    Raises:
        ValueError: nothing to score, or not one hypothesis for each reference.
    """
    if not references:
        raise ValueError("references: there is nothing to score")
    if len(references) != len(hypotheses):
        raise ValueError(f"hypotheses: {len(hypotheses)} of them for {len(references)} references")
    import jiwer  # slow to import: what transcribes without scoring has no use for it

    process = jiwer.process_words if by == "word" else jiwer.process_characters
    output = process(list(references), list(hypotheses))
    counts = np.zeros((4, len(references)), np.int64)
    for index, chunks in enumerate(output.alignments):
        for chunk in chunks:
            said, heard = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            if chunk.type != "equal":
                counts[_WRONG.index(chunk.type), index] += max(said, heard)
        counts[3, index] = len(output.references[index])
    return ErrorCounts(*counts)


def align_words(reference: str, hypothesis: str) -> list[Edit]:
    """The words of both side by side, in one of the alignments with the fewest errors."""
    import jiwer

    output = jiwer.process_words([reference], [hypothesis])
    said, heard = output.references[0], output.hypotheses[0]
    edits: list[Edit] = []
    for chunk in output.alignments[0]:
        left, right = (
            said[chunk.ref_start_idx : chunk.ref_end_idx],
            heard[chunk.hyp_start_idx : chunk.hyp_end_idx],
        )
        length = max(len(left), len(right))
        kind = cast(EditKind, chunk.type)  # jiwer names them so, but types them str
        left, right = left or [""] * length, right or [""] * length
        edits += [Edit(kind, one, other) for one, other in zip(left, right, strict=True)]
    return edits


def _clusters(utterances: int, groups: Sequence[str] | None) -> tuple[Counts, IntervalKind]:
    """What each utterance is drawn together with, as numbers `(utterances,)`, and the name of the method."""
    if groups is not None and len(groups) != utterances:
        raise ValueError(f"groups: {len(groups)} of them for {utterances} references")
    if groups is None or not all(groups) or len(set(groups)) < SPEAKERS_FOR_BOOTSTRAP:
        return np.arange(utterances), "utterance bootstrap"
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups]), "speaker bootstrap"


def _rate(errors: int | np.int64, length: int | np.int64) -> float:
    return float(errors) / max(int(length), 1)


def _interval(
    counts: ErrorCounts, clusters: Counts, *, seed: int, resamples: int
) -> tuple[float, float, bool]:
    """Lower end, upper end, and whether the bootstrap gave them (or else the binomial distribution)."""
    errors = np.bincount(clusters, weights=counts.errors).astype(np.float64)
    lengths = np.bincount(clusters, weights=counts.length).astype(np.float64)
    rates = _resampled_rates(errors, lengths, seed=seed, resamples=resamples)
    low, high = np.quantile(rates, [_TAIL, 1 - _TAIL])
    if low < high:
        return float(low), float(high), True
    total, length = int(errors.sum()), int(lengths.sum())
    low, high = binomial_interval(min(total, length), length)
    return low, max(high, _rate(total, length)), False


def _resampled_rates(
    errors: NDArray[np.float64], lengths: NDArray[np.float64], *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """The rate of each resample, `(resamples,)`, from sums by cluster, `(clusters,)`."""
    generator = np.random.default_rng(seed)
    rates = []
    step = max(1, _DRAWS_AT_ONCE // len(errors))
    for start in range(0, resamples, step):
        drawn = generator.integers(len(errors), size=(min(step, resamples - start), len(errors)))
        rates.append(errors[drawn].sum(axis=1) / np.maximum(lengths[drawn].sum(axis=1), 1))
    return np.concatenate(rates)


def binomial_interval(errors: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's exact two-sided 95 % interval for `errors` in `trials` independent trials.

    At either end a count as far out as this one, or farther, has a chance of 2.5 %. Without trials nothing is
    known: 0 to 1.
    """
    if not 0 <= errors <= trials:
        raise ValueError(f"errors must lie between 0 and {trials} trials, not {errors}")
    if trials == 0:
        return 0.0, 1.0
    low = 0.0 if errors == 0 else 1 - _upper_end(trials - errors, trials)
    high = 1.0 if errors == trials else _upper_end(errors, trials)
    return low, high


def _upper_end(errors: int, trials: int) -> float:
    """The probability p at which `errors` or fewer in `trials` have probability 2.5 %, by bisection."""
    if errors == 0:
        return float(1 - _TAIL ** (1 / trials))
    counts = np.arange(errors + 1)
    chosen = np.arange(1, errors + 1)
    log_ways = np.concatenate([[0.0], np.cumsum(np.log((trials - chosen + 1) / chosen))])
    low, high = errors / trials, 1.0
    for _ in range(60):  # halvings: more than a double's 53 bits
        middle = (low + high) / 2
        if not low < middle < high:
            break
        logs = log_ways + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)
        if float(np.exp(logs).sum()) > _TAIL:
            low = middle
        else:
            high = middle
    return high
