"""Which earlier run an experiment goes on with: its own, none, or one that other settings forbid."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asr_lstm.checkpoints import CheckpointFolder
from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write

CHECKPOINTS_NAME = "checkpoints"  # in the folder of an experiment
_SETTINGS_NAME = "settings.json"
_FINISHED_NAME = "finished"
_MOST_LISTED = 8
# Contents of files are among the settings as digests, which say nothing to a reader.
_DIGEST = re.compile(r"[0-9a-f]{64}( [0-9a-f]{64})*")


def open_run(folder: Path, key: str, *, settings: Mapping[str, Any], fresh: bool) -> CheckpointFolder:
    """The checkpoints of a run, in `folder/KEY`; what runs that are done left beside it is removed.

    Args:
        folder: of the checkpoints of an experiment.
        key: names everything that the run depends on.
        settings: the same in full.
        fresh: remove what is there, this run's own included.

    Raises:
        ConfigError: a run that other settings began is not done; what has changed is listed.
    """
    for other in sorted(folder.glob("*")):
        if not other.is_dir() or (other.name == key and not fresh):
            continue
        if not fresh and _is_under_way(other):
            raise _refusal(other, _changes(_read_settings(other), settings))
        shutil.rmtree(other)
    run = CheckpointFolder(folder / key)
    if not (run.folder / _SETTINGS_NAME).exists():
        with atomic_write(run.folder / _SETTINGS_NAME) as file:
            json.dump(_plain(settings), file, indent=1)
    return run


def refuse_others(folder: Path, settings: Mapping[str, Any]) -> None:
    """Find out that `open_run` will refuse before anything takes long, or takes the place of what it goes on from.

    Args:
        folder: as in `open_run`.
        settings: those that are known so far; others are not compared.

    Raises:
        ConfigError: as `open_run`.
    """
    now = _plain(settings)
    for other in sorted(folder.glob("*")):
        if other.is_dir() and _is_under_way(other):
            then = {name: value for name, value in _read_settings(other).items() if name in now}
            compared = {name: now[name] for name in then}
            if then != compared:
                raise _refusal(other, _changes(then, compared))


def any_under_way(folder: Path) -> bool:
    """Whether a run that is not done has its checkpoints there, as in `open_run`."""
    return any(other.is_dir() and _is_under_way(other) for other in folder.glob("*"))


def _refusal(run: Path, changed: str) -> ConfigError:
    return ConfigError(
        f"{run}: a run that is not done was begun with other settings ({changed}); set them back to go on with it, or "
        "say --fresh to start over"
    )


def finish_run(run: CheckpointFolder) -> None:
    """Note that a run's model is saved: other settings may now take its place."""
    (run.folder / _FINISHED_NAME).touch()


def _is_under_way(folder: Path) -> bool:
    return bool(CheckpointFolder(folder).checkpoints()) and not (folder / _FINISHED_NAME).exists()


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / _SETTINGS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = dict(_leaves(old)), dict(_leaves(_plain(new)))
    changes = []
    for name in sorted({*before, *now}):
        was, is_now = before.get(name), now.get(name)
        if was == is_now:
            continue
        if any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (was, is_now)):
            changes.append(f"{name}: other contents")
        else:
            changes.append(f"{name}: {was} then, {is_now} now")
    more = f", and {len(changes) - _MOST_LISTED} more" if len(changes) > _MOST_LISTED else ""
    return ", ".join(changes[:_MOST_LISTED]) + more if changes else "which ones is not recorded"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings, default=str))
