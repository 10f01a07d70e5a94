"""The Lightning data module over any `load(utterance)` that gives (samples,) or (frames, dims)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from asr_lstm import parallel
from asr_lstm.batch_plan import plan_batches
from asr_lstm.batching import (
    Batch,
    DataConfig,
    Draw,
    EpochSampler,
    Example,
    Unreadable,
    collate,
)
from asr_lstm.errors import READING_ERRORS, ConfigError, DataError
from asr_lstm.fading import fade_synthetic
from asr_lstm.manifest import Loader, Utterance
from asr_lstm.manifest_index import durations_of, shards_of, summarise
from asr_lstm.phones import Phones
from asr_lstm.shard_groups import ShardGroups
from asr_lstm.units import CharacterUnits, Units

log = logging.getLogger(__name__)

# What is done to the waveform (samples,) of a training utterance, by its seed; `asr_lstm.augment` makes one.
Augmentation = Callable[[NDArray[np.float32], int], NDArray[np.float32]]

# What takes the place of a training utterance, by its index and seed: (samples,) and transcript, or None for itself;
# `asr_lstm.splice` makes one.
Splice = Callable[[int, int], tuple[NDArray[np.float32], str] | None]

# 16-bit steps in [-1, 1]: what most recordings hold anyway, at half the memory of float32.
_INT16_SCALE = 32767.0


# Counting the batches of an epoch of so many utterances takes 30 ms; of a million, and twenty epochs, seconds.
_COUNT_EACH_EPOCH = 100_000


class AudioCache:
    """Wraps a loader of audio (samples,): what it returned once comes from memory, up to a budget.

    Args:
        load: the loader.
        gib: the budget; what no longer fits is loaded each time.
    """

    def __init__(self, load: Loader, *, gib: float) -> None:
        self._load = load
        self._room = int(gib * 2**30)
        self._kept: dict[tuple[Path, float, float], NDArray[np.int16]] = {}

    def __call__(self, utterance: Utterance) -> NDArray[np.float32]:
        """The audio (samples,) of an utterance, rounded to 16 bits."""
        # By what is read, not by id: ids are unique within a manifest alone, and train and dev share a cache.
        key = (utterance.path, utterance.offset, utterance.duration)
        kept = self._kept.get(key)
        if kept is None:
            kept = np.round(self._load(utterance) * _INT16_SCALE).astype(np.int16)
            if kept.nbytes <= self._room:
                self._room -= kept.nbytes
                self._kept[key] = kept
        return kept.astype(np.float32) / _INT16_SCALE


class UtteranceDataset(Dataset[Example | Unreadable]):
    """Utterances by draw: loads, augments in training, and encodes the transcript.

    One that cannot be read any more comes as `Unreadable`: a night's training must not end on it.

    Args:
        utterances: with transcripts that the units can write.
        units: the output units.
        load: reads an utterance.
        augment: of the waveform, in training; for audio only.
        lenient: pass over characters that the units lack, in data from which nothing is learned (they
            still count as errors where references are scored).
        phones: of the words, to learn beside; None for none.
        splice: of several utterances, before `augment`; for audio only.

    Raises:
        DataError: a transcript that the units cannot write, unless `lenient`.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        units: Units,
        load: Loader,
        *,
        augment: Augmentation | None = None,
        lenient: bool = False,
        phones: Phones | None = None,
        splice: Splice | None = None,
    ) -> None:
        self.utterances = utterances
        self.units = units
        self.lenient = lenient
        if not lenient:
            _check_writable(utterances, units)
        self.load = load
        self.augment = augment
        self.phones = phones
        self.splice = splice

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, draw: Draw) -> Example | Unreadable:
        try:
            utterance = self.utterances[draw.index]
            spliced = self.splice(draw.index, draw.seed) if self.splice else None
            inputs, text = spliced or (self.load(utterance), self._text(utterance))
        except READING_ERRORS as error:
            return Unreadable(draw.index, " ".join(str(error).split()) or type(error).__name__)
        if self.augment is not None:
            inputs = self.augment(inputs, draw.seed)
        # Made when they are wanted, for a million lists of ids fill a memory.
        phones = self.phones.encode(text) if self.phones else []
        return Example(torch.as_tensor(inputs), self.units.encode(text, where=utterance.id), draw, phones)

    def _text(self, utterance: Utterance) -> str:
        return self.units.known(utterance.text) if self.lenient else utterance.text


class SpeechData(lightning.LightningDataModule):
    """Training and dev batches.

    Args:
        train: utterances to learn from.
        dev: utterances to choose by; never augmented.
        units: the output units.
        load: reads an utterance.
        config: batches, workers, cache.
        augment: of the waveforms in training; none where the loader gives frames.
        seed: of the run.
        accumulate: batches of each process that make one update.
        phones: of the words of the training data, to learn beside; None for none.
        splice: of several training utterances; None for each as it was said.
        fade: epochs in which synthetic speech fades, as in `asr_lstm.fading`; 0 for never.

    Raises:
        ConfigError: shards are to be gone through one after another, but utterances lie outside shards; or
            synthetic speech is to fade and there is no other.
    """

    def __init__(
        self,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        units: Units,
        load: Loader,
        *,
        config: DataConfig,
        augment: Augmentation | None,
        seed: int,
        accumulate: int = 1,
        phones: Phones | None = None,
        splice: Splice | None = None,
        fade: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.train_set = UtteranceDataset(train, units, load, augment=augment, phones=phones, splice=splice)
        self.dev_set = UtteranceDataset(dev, units, load, lenient=True)
        self.sampler = EpochSampler(
            durations_of(train),
            max_seconds=config.batch_seconds,
            seed=seed,
            shortest_first=config.shortest_first,
            group=accumulate * parallel.world(),
            rank=parallel.rank(),
            world=parallel.world(),
            shards=_shard_groups(train, config, seed=seed) if config.shards_at_once else None,
            fading=fade_synthetic(train, epochs=fade, seed=seed) if fade else None,
        )

    def total_updates(self, epochs: int) -> int:
        """Updates of all epochs together; a long epoch's are counted once where others hardly differ."""
        if len(self.train_set) > _COUNT_EACH_EPOCH and not self.sampler.fading:
            return epochs * self.sampler.updates(0)
        return sum(self.sampler.updates(epoch) for epoch in range(epochs))

    def train_dataloader(self) -> DataLoader[Example | Unreadable]:
        """Batches of the epoch that the sampler stands in, from its position on."""
        return self._loader(self.train_set, self.sampler)

    def val_dataloader(self) -> DataLoader[Example | Unreadable]:
        """This process's share of the dev set, longest batches last."""
        plan = plan_batches(
            durations_of(self.dev_set.utterances),
            max_seconds=self.config.eval_seconds,
            seed=0,
            epoch=0,
            shortest_first=1.0,
        )
        plan += [[]] * (-len(plan) % parallel.world())  # Lightning passes over a process that has none
        share = plan[parallel.rank() :: parallel.world()]
        return self._loader(self.dev_set, [[Draw(index, 0) for index in batch] for batch in share])

    def _loader(self, dataset: UtteranceDataset, batches: Any) -> DataLoader[Example | Unreadable]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
            generator=torch.Generator(),  # its own, so that workers don't shift the dropout's random numbers
        )

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data, for a checkpoint."""
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved place."""
        self.sampler.load_state_dict(state_dict)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what the model needs; lengths, targets and seeds stay on the CPU, where they are read."""
        inputs: Tensor = batch.inputs.to(device, non_blocking=True)
        batch.inputs = inputs
        return batch


def readable(load: Loader, utterances: Iterable[Utterance]) -> Iterator[Tensor]:
    """What can be read of some utterances, each (samples,) or (frames, dims).

    Raises:
        DataError: none can be read.
    """
    error: Exception | None = None
    count = 0
    for utterance in utterances:
        try:
            inputs = load(utterance)
        except READING_ERRORS as failure:
            error = failure
            continue
        count += 1
        yield torch.as_tensor(inputs)
    if error is not None and not count:
        raise DataError(f"not one utterance can be read any more, the last: {' '.join(str(error).split())}")


def _shard_groups(utterances: Sequence[Utterance], config: DataConfig, *, seed: int) -> ShardGroups:
    shards = shards_of(utterances)
    outside = np.flatnonzero(shards.numbers < 0)
    if len(outside):
        raise ConfigError(
            f"data.shards_at_once: {utterances[int(outside[0])].path} is a file of its own, and so are "
            f"{len(outside) - 1} others; put the audio into shards (asr-lstm shard), or say 0"
        )
    return ShardGroups(shards, config.shards_at_once, seed)


def _check_writable(utterances: Sequence[Utterance], units: Units) -> None:
    """Encode every transcript once, unless it is known of all together that their characters are units."""
    if isinstance(units, CharacterUnits):
        known = summarise(utterances, units.normaliser)
        if known.counts.keys() <= set(units.symbols):
            return
    for utterance in utterances:
        units.encode(utterance.text, where=utterance.id)
