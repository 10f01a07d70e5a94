"""The few exceptions a user meets. Each message is one line: what is wrong, where, and the way out."""

from __future__ import annotations

import re


class AsrLstmError(Exception):
    """A mistake in the input, not in the program: shown as one line, never as a traceback."""


class ConfigError(AsrLstmError):
    """A recipe, bundle or option that makes no sense."""


class AudioError(AsrLstmError):
    """An audio file that cannot be read or holds nothing that can be recognised."""


class DataError(AsrLstmError):
    """A manifest, corpus or transcript that cannot be used."""


class TrainingInterrupted(AsrLstmError):
    """Training was asked to stop by Ctrl-C or a termination signal; a checkpoint was saved."""


class DownloadError(AsrLstmError):
    """An archive that could not be fetched or is not what its publisher signed."""


# What a loader raises for a file that vanished or went bad; one of a user's own, too.
READING_ERRORS = (AudioError, DataError, OSError, EOFError, ValueError)


def failure_line(id: str, reason: object) -> str:
    """What went wrong with an utterance, and which one: a recording may hold many, and its name then does not say."""
    text = str(reason)
    named = re.search(rf"(?<![\w.-]){re.escape(id)}(?![\w-])", text)
    return text if named else f"{id}: {text}"
