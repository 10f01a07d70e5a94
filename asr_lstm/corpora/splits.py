"""Dividing utterances into train, dev and test so that no voice, or at least no recording, is in two of them."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance

log = logging.getLogger(__name__)

# Held out is at least so many utterances, or a fifth where that is fewer: the rates of a few say nothing.
_ENOUGH = 20
_MOST_OF_FEW = 0.2
# Where holding out whole speakers leaves less than this to learn from, recordings are held out instead.
_LEAST_TRAIN = 0.5

_Group = list[Utterance]
_Key = tuple[str, str]  # "speaker" or "recording", and which


@dataclass(frozen=True)
class Splits:
    """Utterances by split, `train` first and tests last, and what a reader of the results must know of it."""

    utterances: dict[str, list[Utterance]]
    notes: list[str]


def split_utterances(
    utterances: Sequence[Utterance],
    *,
    names: Sequence[str] = (),
    dev: float = 0.1,
    test: float = 0.1,
    seed: int = 1,
) -> Splits:
    """Divide utterances by speaker where speakers are known, else by recording.

    Two utterances of one speaker or of one file stay together; only where that would leave less than half to
    learn from (few speakers, or one who is in every recording) is it the file alone. What is held out is a
    function of the seed and of names, so it stays where the folder moves, and mostly where it grows.

    Args:
        utterances: with their true durations.
        names: of the split of each where the source gives splits; then only a missing `dev` is made, from
            `train`.
        dev: share of the seconds to choose the model by. For few utterances it is more, up to a fifth.
        test: likewise, to be tested on; 0 for none.
        seed: of the choice.

    Raises:
        DataError: there are too few recordings to divide, or the splits given have no `train`.
    """
    check_shares(dev, test)
    if any(names):
        return _given(utterances, names, dev=dev, seed=seed)
    # Test first: what is drawn for it does not depend on the share of dev.
    shares = {"test": test, "dev": dev} if test else {"dev": dev}
    splits, notes = _divide(utterances, shares, seed=seed)
    return Splits(splits, notes + _rough(splits))


def check_shares(dev: float, test: float) -> None:
    """Raise ValueError where the shares leave nothing to learn from or to choose by."""
    if not (dev > 0 and test >= 0 and dev + test < 1):
        raise ValueError(
            f"dev, test: shares from 0 with less than 1 together, dev above 0, not {dev} and {test}"
        )


def _given(utterances: Sequence[Utterance], names: Sequence[str], *, dev: float, seed: int) -> Splits:
    found: dict[str, list[Utterance]] = defaultdict(list)
    for utterance, name in zip(utterances, names, strict=True):
        found[name].append(utterance)
    if "train" not in found:
        raise DataError(f"the splits given are {', '.join(found)}; name those to learn from `train`")
    notes: list[str] = []
    if "dev" not in found:
        log.info("no dev split is given: it is taken from train")
        divided, notes = _divide(found["train"], {"dev": dev}, seed=seed)
        found |= divided
    splits = {name: found[name] for name in ("train", "dev", *sorted(found.keys() - {"train", "dev"}))}
    recordings = {utterance.path for utterance in splits["train"]}
    for name in list(splits)[1:]:
        notes += shared_recordings(name, splits[name], recordings)
    return Splits(splits, notes + _rough(splits))


def shared_recordings(split: str, utterances: Iterable[Utterance], recordings: Collection[Path]) -> list[str]:
    """A note where some of a split's utterances are parts of recordings that training hears other parts of."""
    if shared := {utterance.path for utterance in utterances if utterance.path in recordings}:
        return [f"{split}: {len(shared)} of its recordings are also in the training data, as given"]
    return []


def _divide(
    utterances: Sequence[Utterance], shares: Mapping[str, float], *, seed: int
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """The utterances in `train` and each of `shares`, and notes."""
    few = min(_MOST_OF_FEW, _ENOUGH / len(utterances))
    shares = {split: max(share, few) for split, share in shares.items()}
    known = {utterance.speaker for utterance in utterances} - {""}
    if len(known) > 1:
        splits = _deal(_groups(utterances, by_speaker=True), shares, seed=seed)
        if splits and _seconds(splits["train"]) >= _LEAST_TRAIN * _seconds(utterances):
            log.info("split by speaker")
            return splits, []
    splits = _deal(_groups(utterances, by_speaker=False), shares, seed=seed)
    if not splits:
        recordings = len({utterance.path for utterance in utterances})
        raise DataError(
            f"{recordings} recording{'s' * (recordings != 1)} cannot be divided into train and "
            f"{' and '.join(reversed(shares))}; cut them into a file for each sentence, or give a column `split`"
        )
    log.info("split by recording")
    if not known:
        why = (
            f"no speakers are known: voices of the training may be in {' and '.join(reversed(shares))} too, and "
            "the rates say little about new ones"
        )
    elif len(known) == 1:
        why = "there is one speaker"
    else:
        why = f"holding out some of the {len(known)} speakers wholly would leave too little to learn from"
    return splits, [f"split by recording, since {why}"]


def _groups(utterances: Sequence[Utterance], *, by_speaker: bool) -> dict[str, _Group]:
    """What has to stay together, by name: what shares a recording, or a speaker, or is joined through others."""
    above: dict[_Key, _Key] = {}

    def root(key: _Key) -> _Key:
        while (higher := above.setdefault(key, key)) != key:
            above[key] = above[higher]  # halves the way for the next time
            key = higher
        return key

    real = {path: str(path.resolve()) for path in {utterance.path for utterance in utterances}}
    recordings = [("recording", real[utterance.path]) for utterance in utterances]
    if by_speaker:
        for utterance, recording in zip(utterances, recordings, strict=True):
            if utterance.speaker:
                above[root(recording)] = root(("speaker", utterance.speaker))
    groups: dict[_Key, _Group] = defaultdict(list)
    for utterance, recording in zip(utterances, recordings, strict=True):
        groups[root(recording)].append(utterance)
    # By a name that neither other groups nor the folder's place change: hardly anything else is moved by them.
    return {
        min(
            f"speaker {utterance.speaker}"
            if by_speaker and utterance.speaker
            else f"utterance {utterance.id}"
            for utterance in group
        ): group
        for group in groups.values()
    }


def _deal(
    groups: Mapping[str, _Group], shares: Mapping[str, float], *, seed: int
) -> dict[str, list[Utterance]]:
    """Whole groups to each of `shares`, as near to its share of the seconds as they allow, the rest to `train`.

    Empty where there are fewer groups than splits.
    """
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())
    waiting = [groups[name] for name in order]
    if len(waiting) <= len(shares):
        return {}
    total = sum(map(_seconds, waiting))
    dealt: dict[str, list[Utterance]] = {}
    for number, (split, share) in enumerate(shares.items()):
        spare = len(waiting) - (len(shares) - number)  # one is left for each later split and one for train
        chosen = _choose([_seconds(group) for group in waiting], target=share * total, most=spare)
        dealt[split] = [utterance for index in chosen for utterance in waiting[index]]
        waiting = [group for index, group in enumerate(waiting) if index not in chosen]
    dealt["train"] = [utterance for group in waiting for utterance in group]
    names = [split for split in ("train", "dev", "test") if split in dealt]
    return {split: sorted(dealt[split], key=lambda utterance: utterance.id) for split in names}


def _choose(sizes: Sequence[float], *, target: float, most: int) -> set[int]:
    """Indices of at most `most` sizes, the earlier ones rather, that sum to about the target; at least one."""
    chosen: set[int] = set()
    missing = target
    for index, size in enumerate(sizes):
        if len(chosen) < most and size <= 2 * missing:  # nearer to the target with it than without
            chosen.add(index)
            missing -= size
    if missing > target / 2 and len(chosen) < most:
        rest = [index for index in range(len(sizes)) if index not in chosen]
        chosen.add(min(rest, key=lambda index: sizes[index]))
    return chosen


def _seconds(utterances: Iterable[Utterance]) -> float:
    return sum(utterance.duration for utterance in utterances)


def _rough(splits: Mapping[str, Sequence[Utterance]]) -> list[str]:
    return [
        f"{split}: only {len(rows)} utterances, so its rates are rough"
        for split, rows in splits.items()
        if split != "train" and len(rows) < _ENOUGH
    ]
