"""An ARPA file of ten million n-grams, in the proportions of LibriSpeech's pruned 3-gram."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_lstm.lm.arpa import write_arpa
from asr_lstm.lm.load import load_ngram
from asr_lstm.lm.ngram import SPECIAL_WORDS, NgramModel
from asr_lstm.lm.trie import TrieBuilder

COUNTS = (200_000, 3_800_000, 6_000_000)
PEAK_MEGABYTES = 900  # of the process that reads it; its file has 400
REPORT = """
import sys, time
from asr_lstm.lm.load import load_ngram
start = time.process_time()
load_ngram(sys.argv[1])
seconds = time.process_time() - start
# Not getrusage: its peak is that of the process this one was forked from, where that was higher.
status = dict(line.split(":") for line in open("/proc/self/status"))
print(seconds, int(status["VmHWM"].split()[0]) / 1024)
"""


def large_model() -> NgramModel:
    random = np.random.default_rng(0)
    builder = TrieBuilder(COUNTS)
    contexts, last = np.zeros(COUNTS[0], np.int64), np.arange(COUNTS[0])
    first = 1
    for order, count in enumerate(COUNTS, start=1):
        if order > 1:
            nodes = COUNTS[order - 2]
            keys = np.empty(0, np.int64)
            while len(keys) < count:  # few contexts have most n-grams, and few words stand in most
                context = (random.random(count) ** 3 * nodes).astype(np.int64)
                word = np.exp(random.random(count) * np.log(COUNTS[0] - 3)).astype(np.int64) + 2
                keys = np.unique(np.concatenate([keys, context * COUNTS[0] + word]))
            contexts, last = np.divmod(np.sort(random.permutation(keys)[:count]), COUNTS[0])
            contexts += first - nodes
        values: NDArray[np.float32] = -random.gamma(4, 0.7, (2, count)).astype(np.float32)
        backoffs = values[1] if order < len(COUNTS) else None
        builder.add(order, contexts.astype(np.int32), last.astype(np.int32), values[0], backoffs)
        first += count
    words = [*SPECIAL_WORDS, *(f"WORD{number}" for number in range(3, COUNTS[0]))]
    return NgramModel(builder.finish(), words, COUNTS)


def load_in_a_process(path: Path, cache: Path) -> tuple[float, float]:
    """Seconds of the processor's time and the peak of memory in megabytes that loading takes."""
    command = [sys.executable, "-c", REPORT, str(path)]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_ten_million_ngrams_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = large_model()
    write_arpa(tmp_path / "large.arpa", model)
    first = load_in_a_process(tmp_path / "large.arpa", tmp_path / "cache")
    again = load_in_a_process(tmp_path / "large.arpa", tmp_path / "cache")
    print(f"ARPA: {first[0]:.1f} s, {first[1]:.0f} MB; kept binary form: {again[0]:.2f} s, {again[1]:.0f} MB")
    assert first[1] < PEAK_MEGABYTES
    assert again[0] < first[0] / 10
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = load_ngram(tmp_path / "large.arpa")
    assert (loaded.words, loaded.counts) == (model.words, model.counts)
    for mine, its in zip(loaded.trie, model.trie, strict=True):
        np.testing.assert_array_equal(mine, its)
    (tmp_path / "large.arpa").unlink()  # pytest keeps what tests leave
    next((tmp_path / "cache").rglob("*.ngram")).unlink()
