"""What goes wrong in data and numbers while a model trains: noted, named, and beyond a measure the end."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr_lstm.corpora.validate import Dropped, write_dropped
from asr_lstm.errors import DataError

log = logging.getLogger(__name__)

# So many utterances may always be unreadable: in a small set one of them is more than any share.
FEW = 5
# Utterances named in one line; more are only counted.
_NAMED = 8


class UnreadableFiles:
    """Counts and lists the utterances that could be read when training was prepared, and then no more.

    Args:
        path: of the list, a table as `asr_lstm.corpora.validate.write_dropped` writes; None to keep none.
        tolerate: share of the utterances drawn so far that may be lacking, and `FEW` always may.

    Attributes:
        listed: all of them, those of earlier sittings too, by id and path.
    """

    def __init__(self, path: Path | None, *, tolerate: float) -> None:
        self.path = path
        self.tolerate = tolerate
        self.listed: dict[tuple[str, Path], Dropped] = {}
        self._drawn = 0
        self._lacking: set[tuple[str, Path]] = set()  # in this sitting: what was mended since does not count

    def count(self, drawn: int, lacking: Iterable[Dropped], *, size: int) -> DataError | None:
        """Take in what was drawn.

        Args:
            drawn: how many utterances, those that could not be read included.
            lacking: the latter.
            size: utterances of the data altogether.

        Returns:
            the error to stop with, where too many are lacking.
        """
        self._drawn += drawn
        lacking = list(lacking)
        if not lacking:
            return None
        new = [item for item in lacking if (item.id, item.path) not in self.listed]
        self._lacking.update((item.id, item.path) for item in lacking)
        if new:
            self._list(new)
        share = self.tolerate * min(self._drawn, size)
        if len(self._lacking) <= max(FEW, share):
            return None
        return DataError(
            f"{len(self._lacking)} of {min(self._drawn, size)} utterances cannot be read any more, the last: "
            f"{lacking[-1].reason}; {self._where()}mend the data, or allow more by training.tolerate_share"
        )

    def _list(self, new: Sequence[Dropped]) -> None:
        if not self.listed:
            log.warning(
                "left out, for it cannot be read any more: %s; %swhat follows is counted in silence",
                new[0].reason,
                self._where(),
            )
        self.listed.update({(item.id, item.path): item for item in new})
        if self.path is not None:
            write_dropped(self.path, self.listed.values())

    def _where(self) -> str:
        return f"all are listed in {self.path}; " if self.path is not None else ""

    def state_dict(self) -> list[list[str]]:
        """The list, in plain types, for a checkpoint."""
        return [[item.id, str(item.path), item.reason] for item in self.listed.values()]

    def load_state_dict(self, state: Iterable[Sequence[str]]) -> None:
        """Go on with a saved list."""
        self.listed = {(name, Path(path)): Dropped(name, Path(path), reason) for name, path, reason in state}


class NonFinite:
    """Counts the updates that were skipped because their loss or gradient was not finite.

    Args:
        stop_after: so many in a row.

    Attributes:
        in_a_row: up to now.
        total: of the run.
    """

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after
        self.in_a_row = 0
        self.total = 0

    def sound(self) -> None:
        """An update was made."""
        self.in_a_row = 0

    def skipped(self, names: Sequence[str], *, update: int) -> DataError | None:
        """An update was skipped; warn of it.

        Args:
            names: ids of the utterances of this process that are to blame; none where it was another process.
            update: its number.

        Returns:
            the error to stop with, after too many in a row.
        """
        self.in_a_row += 1
        self.total += 1
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            log.warning(
                "update %d skipped, its loss or gradient is not finite: %s%s",
                update,
                ", ".join(names[:_NAMED]),
                more,
            )
        if self.in_a_row < self.stop_after:
            return None
        return DataError(
            f"{self.in_a_row} updates in a row had a loss or gradient that is not finite; look at the utterances "
            "named above, or lower training.learning_rate; what was learned before is saved"
        )

    def state_dict(self) -> dict[str, Any]:
        """The total, for a checkpoint: what comes after it begins a new row."""
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved total."""
        self.total = state["total"]


def to_blame(indices: Tensor, losses: Tensor, gradients: Iterable[Tensor]) -> list[int]:
    """Which utterances made an update not finite: those whose loss is, else all where the gradients are not.

    Args:
        indices: (batch,) of the utterances.
        losses: (batch,) of each.
        gradients: of all of them together.
    """
    bad = ~losses.isfinite().cpu()
    if bool(bad.any()):
        return [int(index) for index in indices[bad]]
    if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        return []
    return [int(index) for index in indices]
