"""How `tools/bench_throughput.py` measures: blocks of real training and of the bare stack of layers, by turns."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from torch import Tensor

from asr_lstm.batching import Batch
from asr_lstm.data import SpeechData
from asr_lstm.training import CTCTraining

DATA, READING, AUGMENTING = "data: waiting, batches", "data: reading", "data: augmentation"
FEATURES, STACK, HEAD, CTC = "features and masks", "LSTM stack", "output layer", "CTC loss"
GRADIENTS, OPTIMISER = "gradients: sum, norm, clipping", "optimiser"
KEEPING, WATCHING, SHOWING, REST = (
    "averages and checkpoints",
    "gradient watching",
    "progress",
    "Lightning, logs",
)
PARTS = (
    STACK, CTC, HEAD, FEATURES, DATA, READING, AUGMENTING, GRADIENTS, OPTIMISER, KEEPING, WATCHING, SHOWING, REST,
)  # fmt: skip

# What has run when Lightning says that one of its actions is over, by the beginning of the action's name.
_ENDED = {
    "[_TrainingEpochLoop].train_dataloader_next": DATA,
    "[LightningModule]CTCTraining.on_before_optimizer_step": GRADIENTS,
    "optimizer_step": OPTIMISER,
    "[Callback]Checkpointer": KEEPING,
    "[Callback]GradientWatch": WATCHING,
    "[Callback]ProgressReport": SHOWING,
}
# The same when one begins: of all others it is Lightning's own time.
_BEFORE = {"optimizer_step": GRADIENTS}
_LOADED_AHEAD = 2  # batches, by each process of torch's DataLoader

Inputs = tuple[Tensor, Tensor]  # of the stack: frames and lengths


class Timeline(Profiler):
    """Whose time it is: each `mark` gives all that has gone by since the one before to a part of training.

    Lightning calls it as a profiler, the parts of the model by what `attach` puts around them.

    Attributes:
        on: whether to take note at all; on a GPU a mark waits for it, which makes training slower.
        seconds: by part.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last = 0.0

    def now(self) -> float:
        """The time, when all that was asked of a GPU is done."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()

    def mark(self, part: str) -> None:
        """What has run since the last mark was this part."""
        if self.on:
            now = self.now()
            self.seconds[part] += now - self._last
            self._last = now

    def switch(self, on: bool) -> None:
        """Begin or end to take note."""
        self.mark(REST)
        self.on = on
        self._last = self.now()

    def start(self, action_name: str) -> None:
        """Lightning begins something."""
        self.mark(_part_of(action_name, _BEFORE))

    def stop(self, action_name: str) -> None:
        """Lightning has done something."""
        self.mark(_part_of(action_name, _ENDED))


def _part_of(action: str, table: dict[str, str]) -> str:
    return next((part for name, part in table.items() if action.startswith(name)), REST)


def attach(timeline: Timeline, task: CTCTraining, data: SpeechData, heard: list[Inputs]) -> None:
    """Put marks around the parts of a training, forward and backward.

    Args:
        timeline: to mark.
        task: whose model is trained.
        data: read in this process; what other processes do is seen only where training waits for them.
        heard: is given the inputs of the stack at each training step.
    """
    model, encoder = task.model, task.model.encoder

    def hear(arguments: Any, result: Any) -> None:
        heard.append((arguments[0].detach(), arguments[1]))
        mark_gradients(result, HEAD)

    def mark_gradients(outputs: Any, part: str) -> None:
        """When the gradient of an output has come, this part's backward pass has run."""
        for tensor in outputs if isinstance(outputs, Sequence) else [outputs]:
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _: timeline.mark(part))

    _around(timeline, model.front_end, "forward", FEATURES)
    if model.spec_augment is not None:
        _around(timeline, model.spec_augment, "forward", FEATURES)
    for name in ("forward", "forward_with_layer"):
        _around(timeline, encoder, name, STACK, before=FEATURES, then=hear)
    _around(
        timeline, model.head, "forward", HEAD, before=HEAD, then=lambda _, logits: mark_gradients(logits, CTC)
    )
    for module, part in ((encoder, STACK), (model.head, HEAD)):
        for weight in module.parameters():
            mark_gradients(weight, part)
    if not data.config.workers:
        _around(timeline, data.train_set, "load", READING, before=DATA)
        if data.train_set.augment is not None:
            _around(timeline, data.train_set, "augment", AUGMENTING, before=DATA)


def _around(
    timeline: Timeline,
    owner: Any,
    name: str,
    part: str,
    *,
    before: str = REST,
    then: Callable[[Any, Any], None] | None = None,
) -> None:
    """Put marks around an object's method, and look at what it takes and gives; where nothing is learned, neither."""
    run = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        if not getattr(owner, "training", True):  # gradient watching has its own look at the model
            return run(*arguments, **options)
        timeline.mark(before)
        result = run(*arguments, **options)
        timeline.mark(part)
        if then is not None:
            then(arguments, result)
        return result

    setattr(owner, name, timed)


class Engine:
    """The stack of layers alone: forward and backward over what it heard in training.

    Args:
        task: whose stack it is, dropout and all.
        bfloat16: whether its products are computed in it.
    """

    def __init__(self, task: CTCTraining, *, bfloat16: bool) -> None:
        self._stack = task.model.encoder
        self._run = self._stack.forward  # as it is before anything is put around it
        self._weights = [weight for weight in self._stack.parameters() if weight.requires_grad]
        self._bfloat16 = bfloat16

    def learn(self, heard: Sequence[Inputs]) -> None:
        """A forward and a backward pass over each."""
        for frames, lengths in heard:
            with torch.autocast(frames.device.type, torch.bfloat16, enabled=self._bfloat16):
                outputs = self._run(frames, lengths)
            torch.autograd.grad(outputs, self._weights, torch.ones_like(outputs), materialize_grads=True)


@dataclass(frozen=True)
class Round:
    """Seconds of a block of training, of the stack alone over the same batches, and of the speech in them."""

    training: float
    engine: float
    speech: float


class Blocks(Callback):
    """Divides training into rounds; the last of the callbacks.

    A round is a block that is profiled, one that is timed as it is, and the stack alone over what the latter heard.
    While the stack runs alone other processes load ahead: what they may hold is passed over before the next round. The
    first round warms up and does not count.

    Args:
        timeline: of the profile.
        engine: the stack alone.
        heard: the inputs of the stack, which `attach` gathers.
        data: that is trained on.
        size: batches of a block.
        rounds: that count, at most.
        seconds: after which no other begins, from the first batch on.

    Attributes:
        rounds: those that count; as many blocks of the same size were profiled.
    """

    def __init__(
        self,
        timeline: Timeline,
        engine: Engine,
        heard: list[Inputs],
        *,
        data: SpeechData,
        size: int,
        rounds: int,
        seconds: float,
    ) -> None:
        self.rounds: list[Round] = []
        self._timeline, self._engine, self._heard = timeline, engine, heard
        self._data, self._size = data, size
        self._script = self._play(rounds=rounds, seconds=seconds)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Up to the first batch."""
        next(self._script)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """From one batch to the next."""
        try:
            self._script.send(float(self._data.sampler.durations[batch.indices].sum()))
        except StopIteration:
            trainer.should_stop = True

    def _play(self, *, rounds: int, seconds: float) -> Generator[None, float, None]:
        """All rounds; each `yield` is a batch of training, and gives the seconds of its speech."""
        started = time.monotonic()
        for number in itertools.count():
            if self.rounds and (len(self.rounds) == rounds or time.monotonic() - started > seconds):
                return
            for _ in range(_LOADED_AHEAD * self._data.config.workers):
                yield
            self._timeline.switch(True)
            for _ in range(self._size):
                yield
            self._timeline.switch(False)
            self._heard.clear()
            speech, began = 0.0, self._timeline.now()
            for _ in range(self._size):
                speech += yield
            ended = self._timeline.now()
            self._engine.learn(self._heard)
            done = Round(ended - began, self._timeline.now() - ended, speech)
            if number:
                self.rounds.append(done)
            else:
                self._timeline.seconds.clear()
