"""Several processes that train one model: how they find each other, what they add up, and who does what.

The first process runs the whole program; the others only do the jobs that it hands them (`follow`), which is
training. They are started here (`devices`, on one machine) or by `torchrun` (any number of machines).
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from asr_lstm.errors import AsrLstmError, ConfigError, TrainingInterrupted

log = logging.getLogger(__name__)

# Between two jobs the first process prepares a corpus or decodes a test set.
_LONGEST_WAIT = timedelta(days=30)
# What torchrun tells each process.
_WORLD, _RANK = "WORLD_SIZE", "RANK"

Job = Callable[[], object]

_jobs: Any = None  # the process group over which jobs are handed out: it may wait for long


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Which of them this is; 0 is the first."""
    return distributed.get_rank() if _joined() else 0


def follows() -> bool:
    """Whether torchrun started this process as another than the first: it has to `follow`, and no more."""
    return int(os.environ.get(_RANK, "0")) > 0


def sum_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each tensor over all processes, in one exchange; the tensors stay as they are."""
    if world() == 1:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def gather(value: Any) -> list[Any]:
    """What each process holds, by rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    distributed.all_gather_object(values, value)
    return values


def any_process(flag: bool) -> bool:
    """Whether any process says so: all of them must ask at the same point, and get the same answer."""
    if world() == 1:
        return flag
    count = torch.tensor([float(flag)])
    distributed.all_reduce(count)
    return bool(count)


def wait_for_all() -> None:
    """Return when all processes have come here: what the first one wrote before stands."""
    any_process(False)


def trainer_options(*, devices: int, nodes: int) -> dict[str, Any]:
    """What Lightning's trainer is to be told of processes, once they have met."""
    if world() == 1:
        return {"devices": 1}
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    # Buffers are the same everywhere: to send them around at each step would take time, and on dev, where
    # processes have other numbers of batches, each would wait for the rest.
    strategy = DDPStrategy(broadcast_buffers=False)
    plugins = [TorchElasticEnvironment()]
    return {"devices": devices, "num_nodes": nodes, "strategy": strategy, "plugins": plugins}


@contextmanager
def together(job: Job, *, devices: int, nodes: int) -> Iterator[None]:
    """Within the block, all other processes do `job` beside what the first one does there.

    Args:
        job: what the others are to do; it is pickled. In such a process this context does nothing.
        devices: processes on each machine; without torchrun they are started here, and end with the block.
        nodes: machines.

    Raises:
        ConfigError: torchrun started another number of processes, or is needed and was not used.
    """
    asked, launched = devices * nodes, int(os.environ.get(_WORLD, "1"))
    if rank() > 0 or asked == launched == 1:
        yield
    elif launched > 1:
        if asked != launched:
            raise ConfigError(
                f"torchrun started {launched} processes, but the recipe has training.devices {devices} and "
                f"training.num_nodes {nodes}; their product must be that number"
            )
        _join()
        _hand_out(job)
        try:
            with _explained():
                yield
        except BaseException:
            atexit.unregister(_dismiss)  # the others may be anywhere: they end when this process does
            raise
    elif nodes > 1:
        raise ConfigError(
            f"training.num_nodes is {nodes}: start the command by torchrun on each machine (docs/training.md)"
        )
    else:
        with _companions(devices), _explained():
            _hand_out(job)
            yield
            _hand_out(None)


def follow() -> int:
    """Do the jobs of the first process until it has no more; returns the exit status."""
    _join()
    while True:
        try:
            job = _receive()
        except RuntimeError:
            return 1  # the first process ended by an error, and said so
        if job is None:
            return 0
        try:
            job()
        except TrainingInterrupted:
            pass  # the first process says so
        except AsrLstmError as error:
            log.error("process %d of training: %s", rank(), error)
            return 1  # or, where the error is this process's alone, the others would wait for it


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _join() -> None:
    """Meet the other processes, as the environment says; once in a process's life."""
    global _jobs
    if _joined():
        return
    # Numbers on the GPU travel by NCCL, all others by gloo.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    _jobs = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    if rank() == 0:
        atexit.register(_dismiss)


def _hand_out(job: Job | None) -> None:
    # The path first: with it the others find the modules that the job's functions stand in.
    for item in (sys.path, pickle.dumps(job)):
        distributed.broadcast_object_list([item], src=0, group=_jobs)


def _receive() -> Job | None:
    path: list[Any] = [None]
    job: list[Any] = [None]
    distributed.broadcast_object_list(path, src=0, group=_jobs)
    sys.path.extend(folder for folder in path[0] if folder not in sys.path)
    distributed.broadcast_object_list(job, src=0, group=_jobs)
    return pickle.loads(job[0])  # type: ignore[no-any-return]


def _dismiss() -> None:
    """At the end of the first process under torchrun: the others may go."""
    if _joined():
        _hand_out(None)
        distributed.destroy_process_group()


@contextmanager
def _companions(count: int) -> Iterator[None]:
    """Start the other processes of this machine and be their first; afterwards all is as before."""
    before, threads = dict(os.environ), torch.get_num_threads()
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared |= {_WORLD: str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0"}
    context = multiprocessing.get_context("spawn")  # a fork would take torch's threads along, half alive
    share = max(1, threads // count)
    processes = []
    try:
        for number in range(1, count):
            environment = shared | {_RANK: str(number), "LOCAL_RANK": str(number)}
            process = context.Process(target=_companion, args=(environment, share))
            process.start()
            processes.append(process)
        os.environ.update(shared | {_RANK: "0", "LOCAL_RANK": "0"})
        torch.set_num_threads(share)
        _join()
        yield
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
        if _joined():
            distributed.destroy_process_group()
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(before)


def _companion(environment: dict[str, str], threads: int) -> None:
    os.environ.update(environment)
    torch.set_num_threads(threads)
    raise SystemExit(follow())


@contextmanager
def _explained() -> Iterator[None]:
    """Where another process died, what fails here is not the cause."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise AsrLstmError(
            "another process of training ended before its time; its message stands above"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
