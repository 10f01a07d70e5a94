"""Processes that speak: each is kept, and answers each job from a fork of itself.

espeak-ng repeats its output only from a fresh process. Python and numpy take longer to start than a voice takes to
speak a minute, so a process that has them imported, but not yet espeak-ng, is forked for each job:
`python -m asr_lstm.corpora.espeak_pool` reads a JSON job a line (`asr_lstm.corpora.espeak.run_job`) and writes an
answer a line. This module must stay quick to import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from asr_lstm import errors
from asr_lstm.corpora.espeak import run_job
from asr_lstm.errors import AsrLstmError, DataError

Job = Mapping[str, Any]


def speak_jobs(jobs: Sequence[Job], *, workers: int | None = None) -> Iterator[dict[str, float]]:
    """Run jobs and yield the seconds of the files of each, in the order in which they are done.

    Args:
        jobs: as `asr_lstm.corpora.espeak.run_job` takes them.
        workers: processes at a time; one a core by default.

    Raises:
        AsrLstmError: as `run_job`, or a process that dies.
    """
    count = max(1, min(workers or os.cpu_count() or 1, len(jobs)))
    idle: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker() for _ in range(count)]
    for worker in started:
        idle.put(worker)

    def run(job: Job) -> dict[str, float]:
        worker = idle.get()
        try:
            return worker.run(job)
        finally:
            idle.put(worker)

    # Threads only wait here; the work is in their processes.
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for worker in started:
                worker.close()


class _Worker:
    """One process, which is started at once."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "asr_lstm.corpora.espeak_pool"],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, job: Job) -> dict[str, float]:
        """Send a job and wait for its answer."""
        requests, answers = self._process.stdin, self._process.stdout
        line = ""
        if requests is not None and answers is not None:
            try:
                requests.write(json.dumps(job) + "\n")
                requests.flush()
                line = answers.readline()
            except BrokenPipeError:
                pass
        if not line:
            status = self._process.wait()
            raise DataError(f"{job['folder']}: the espeak-ng process ended with status {status}; try again")
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["kind"])(answer["error"])
        seconds: dict[str, float] = answer["seconds"]
        return seconds

    def close(self) -> None:
        """End the process: it ends by itself when nothing more can come."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


def child_environment() -> dict[str, str]:
    """Let the process find this very package, and keep numpy from starting threads it has no use for."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def answer_job(line: str) -> dict[str, Any]:
    """The answer to a job: `{"seconds": ...}`, or `{"error": message, "kind": name of the exception}`."""
    job = json.loads(line)
    try:
        return {"seconds": run_job(job)}
    except AsrLstmError as error:
        return {"error": str(error), "kind": type(error).__name__}
    except Exception as error:
        return _died(job, f"1: {type(error).__name__}: {error}")


def _died(job: Job, status: object) -> dict[str, str]:
    return {
        "error": f"{job['folder']}: the espeak-ng process ended with status {status}",
        "kind": "DataError",
    }


def main() -> int:
    """Answer the jobs on standard input on standard output, each from a fork. Returns 1 if any failed, else 0."""
    import soundfile  # noqa: F401  (imported before the fork, once for all)
    import soxr  # noqa: F401

    failed = False
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answer = answer_job(line)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            os._exit(1 if "error" in answer else 0)
        _, wait = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(wait)
        failed = failed or status != 0
        if status < 0:  # ended by a signal, without a word
            print(json.dumps(_died(json.loads(line), status)), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Ctrl-C reaches every process; the one that started us says so
        os._exit(130)
