"""Who speaks in a user's own recordings: by a column, a sub-folder, or a pattern in the path."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from asr_lstm.corpora.rows import split_name
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance

log = logging.getLogger(__name__)


def name_speakers(utterances: Sequence[Utterance], *, speaker: str, source: Path) -> list[Utterance]:
    """The utterances with their speakers, found as `prepare_folder` says; logs how.

    Raises:
        ConfigError: `speaker` is no column, no pattern with a group, or finds nobody.
    """
    folders = [_topmost(path) for path in below_common([utterance.path for utterance in utterances])]
    found: list[str]
    if speaker == "none":
        found, how = [""] * len(utterances), ""
    elif speaker == "folder":
        found, how = folders, "by sub-folder"
    elif "(" in speaker:
        found, how = _by_pattern(utterances, speaker_pattern(speaker), source), f"by the pattern {speaker}"
    elif speaker:
        found = [" ".join(str(utterance.extra.get(speaker, "")).split()) for utterance in utterances]
        how = f"by the column {speaker}"
    elif any(utterance.speaker for utterance in utterances):
        found, how = [utterance.speaker for utterance in utterances], "as the source names them"
    elif all(folders) and len(folders) >= 2 * len(set(folders)) > 2:
        found, how = folders, "by sub-folder (if these are not speakers, say speaker: none)"
    else:
        found, how = [""] * len(utterances), ""
    known = Counter(found)
    unknown = known.pop("", 0)
    if how and not known:
        raise ConfigError(
            f"speaker: {speaker!r} names no speaker in {source}; give a column, `folder`, `none`, or a pattern with "
            "one group such as ([^/]+)_[0-9]+[.]"
        )
    log.info("speakers: %s", f"{len(known)}, {how}" if known else "not known")
    if known and unknown:
        log.warning("speakers: not known of %d utterances", unknown)
    return [replace(utterance, speaker=name) for utterance, name in zip(utterances, found, strict=True)]


def _topmost(path: PurePath) -> str:
    """The first folder of a relative path that is not named as a split; "" if there is none."""
    parts = path.parts[:-1]
    return next((part for part in parts if not split_name(part)), "")


def speaker_pattern(text: str) -> re.Pattern[str]:
    """A pattern that finds a speaker in a path.

    Raises:
        ConfigError: it is none, or has no group.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"speaker: {text!r} is not a regular expression ({error})") from error
    if not pattern.groups:
        raise ConfigError(f"speaker: {text!r} has no group; put the speaker's part in parentheses")
    return pattern


def _by_pattern(utterances: Sequence[Utterance], pattern: re.Pattern[str], source: Path) -> list[str]:
    base = source if source.is_dir() else source.parent
    paths = [Path(os.path.relpath(utterance.path, base)).as_posix() for utterance in utterances]
    return [(match[1] or "") if (match := pattern.search(path)) else "" for path in paths]


def below_common(paths: Sequence[Path]) -> list[PurePath]:
    """Each path below the folder that all of them share."""
    if not paths:
        return []
    folder = os.path.commonpath([os.path.normpath(path.parent) for path in paths])
    return [PurePath(os.path.relpath(path, folder)) for path in paths]
