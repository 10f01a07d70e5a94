"""Checkpoints of a training on disk: whole, checked, in a format of our own, and readable without pickle's dangers.

Lightning's own checkpoints are not used: they remember the loops of its trainer, whose counters have gone wrong when
a run was saved within an epoch (Lightning issue 21938), and the weights together with the optimiser's state.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import pickle
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from asr_lstm.errors import ConfigError, DataError
from asr_lstm.files import atomic_write
from asr_lstm.scoring import summed_rates

log = logging.getLogger(__name__)

FORMAT = 2  # raised when a checkpoint of today could not be gone on from any more
# The newest may be damaged; the one before it is minutes older, and one more would only take room.
LAST_KEPT = 2
STATE_NAME = "state.json"
WEIGHTS_NAME = "weights.safetensors"
AVERAGE_NAME = "average.safetensors"
OPTIMISER_NAME = "optimiser.pt"
_PREFIX = "checkpoint-"
_UNFINISHED = ".new-"
_MEGABYTE = 10**6
# What damaged or hostile contents make json, safetensors and torch say.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    EOFError,
    SafetensorError,
    pickle.PickleError,
)


@dataclass(frozen=True)
class Judged:
    """An epoch that is among the best on dev.

    Attributes:
        epoch: its number, from 0.
        wer: word error rate on dev.
        cer: character error rate on dev.
        file: of its weights.
    """

    epoch: int
    wer: float
    cer: float
    file: str

    @property
    def errors(self) -> float:
        """What is lowest in the best epoch."""
        return summed_rates(self.wer, self.cer)


@dataclass
class RunState:
    """Where a training stands; numbers, words and lists of them only.

    Attributes:
        epoch: under way, from 0.
        position: batches of it already learned from.
        updates: of the weights so far.
        resumed: how often the run was gone on with.
        best: the best epochs so far, best first.
        since_best: epochs since the best one.
        ended: there is nothing left to train.
        average_updates: how many updates the averaged weights have seen.
        judging_seconds: what judging an epoch took the last time; None before the first.
        task: what the training module wants to remember.
    """

    epoch: int = 0
    position: int = 0
    updates: int = 0
    resumed: int = 0
    best: list[Judged] = field(default_factory=list)
    since_best: int = 0
    ended: bool = False
    average_updates: int = 0
    judging_seconds: float | None = None
    task: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """All that a training needs to go on: its state, weights, averaged weights (or none), and optimiser."""

    state: RunState
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run.

    Each is a folder that appears whole or not at all, with a digest of each of its files. Beside them lie the
    weights of the best epochs.

    Args:
        folder: made where missing; what a killed run left half written is removed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.folder.glob(".best-*"):
            left.unlink(missing_ok=True)

    def checkpoints(self) -> list[Path]:
        """The folders of the checkpoints that stand, oldest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*"))

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint; of the earlier ones the last few stay.

        Raises:
            DataError: it cannot be written; the checkpoints before it stand.
        """
        contents = {
            WEIGHTS_NAME: _to_bytes(snapshot.weights),
            OPTIMISER_NAME: _torch_bytes(snapshot.optimiser),
        }
        if snapshot.average:
            contents[AVERAGE_NAME] = _to_bytes(snapshot.average)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        head = {"format": FORMAT, "digests": digests, "state": asdict(snapshot.state)}
        contents[STATE_NAME] = json.dumps(head, indent=1).encode()
        earlier = self.checkpoints()
        serial = int(earlier[-1].name.removeprefix(_PREFIX)) + 1 if earlier else 1
        path = self.folder / f"{_PREFIX}{serial:06d}"
        try:
            self._write_folder(path, contents)
        except OSError as error:
            raise self._cannot_write(path, error, need=sum(map(len, contents.values()))) from error
        self._prune(snapshot.state)
        return path

    def latest(self) -> Snapshot | None:
        """The newest checkpoint that is whole, or None; a line is logged for each that is not.

        Raises:
            ConfigError: it was written by another version.
        """
        for path in reversed(self.checkpoints()):
            try:
                return _read(path)
            except _DAMAGE as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                log.warning("%s: damaged (%s); looking for an earlier one", path, reason[:200])
        return None

    def keep_weights(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Write weights, such as those of a best epoch, to a file that `RunState.best` names.

        Raises:
            DataError: they cannot be written.
        """
        data = _to_bytes(weights)
        try:
            with atomic_write(self.folder / name, "wb") as file:
                file.write(data)
        except (OSError, DataError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            raise self._cannot_write(self.folder / name, cause or error, need=len(data)) from error

    def weights(self, name: str) -> dict[str, Tensor]:
        """Read what `keep_weights` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            return load_tensors((self.folder / name).read_bytes())
        except _DAMAGE as error:
            raise DataError(
                f"{self.folder / name}: the weights of the best epoch cannot be read ({error}); "
                "train again with --fresh"
            ) from error

    def _write_folder(self, path: Path, contents: Mapping[str, bytes]) -> None:
        temporary = self.folder / f"{_UNFINISHED}{os.getpid()}"
        temporary.mkdir()
        try:
            for name, data in contents.items():
                with (temporary / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            _sync(temporary)
            temporary.rename(path)
            _sync(self.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _prune(self, state: RunState) -> None:
        """Remove old checkpoints, and weights of epochs that no checkpoint left calls the best any more."""
        checkpoints = self.checkpoints()
        for path in checkpoints[:-LAST_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        named = {judged.file for judged in state.best}
        for path in checkpoints[-LAST_KEPT:]:
            try:
                named |= {row["file"] for row in json.loads((path / STATE_NAME).read_text())["state"]["best"]}
            except _DAMAGE:  # damaged: nothing will be resumed from it
                continue
        for path in self.folder.glob("best-*"):
            if path.name not in named:
                path.unlink()

    def _cannot_write(self, path: Path, error: BaseException, *, need: int) -> DataError:
        earlier = self.checkpoints()
        stands = f"; {earlier[-1].name} stands and the same command goes on from it" if earlier else ""
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.folder).free / _MEGABYTE
            return DataError(
                f"{path}: the disk is full ({free:.0f} MB free, {need / _MEGABYTE:.1f} MB needed); free some on the "
                f"disk of {self.folder}, such as experiments that are done with{stands}"
            )
        return DataError(f"{path}: cannot be written ({error}){stands}")


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: Path) -> None:
    """Raise where the weights of a checkpoint are not those of this model.

    Raises:
        ConfigError: naming the first that differs.
    """
    for name in sorted({*found, *expected}):
        shapes = [tuple(side[name].shape) if name in side else None for side in (found, expected)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"{where}: a checkpoint of another model ({name} is {shapes[0]} there, {shapes[1]} here); "
                "put its own back, or say --fresh to start over"
            )


def _read(path: Path) -> Snapshot:
    """A checkpoint; raises one of `_DAMAGE`, or ConfigError for another format."""
    head = json.loads((path / STATE_NAME).read_text(encoding="utf-8"))
    if head["format"] != FORMAT:
        raise ConfigError(
            f"{path}: written by another version (format {head['format']}, this one reads {FORMAT}); "
            "install that version, or say --fresh to start over"
        )
    contents = {}
    for name, digest in head["digests"].items():
        contents[name] = (path / Path(name).name).read_bytes()
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ValueError(f"{name} is not what was written")
    best = [Judged(**row) for row in head["state"].pop("best")]
    optimiser = _load_plain(contents[OPTIMISER_NAME], name=OPTIMISER_NAME)
    return Snapshot(
        state=RunState(best=best, **head["state"]),
        weights=load_tensors(contents[WEIGHTS_NAME]),
        average=load_tensors(contents[AVERAGE_NAME]) if AVERAGE_NAME in contents else {},
        optimiser=optimiser,
    )


def _load_plain(content: bytes, *, name: str) -> Any:
    """What torch saved; raises one of `_DAMAGE`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on what it did not write itself
            # Digests guard against accidents, weights_only against a hostile hand: it refuses to call anything.
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words tell how to run it all the same
        raise ValueError(f"{name} holds more than numbers and names, or none") from error


def _to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: value.detach().cpu().contiguous() for name, value in weights.items()})


def _torch_bytes(value: Any) -> bytes:
    # By way of memory: torch's own writer turns a full disk into an error that no longer says so.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _sync(folder: Path) -> None:
    """Make the names within a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
