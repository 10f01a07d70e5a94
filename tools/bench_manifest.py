"""How long training takes to start on a long manifest, and how much memory: python tools/bench_manifest.py [ROWS].

A manifest is made up (read speech: 1.5 to 16.5 s, 2.7 words a second, a speaker every few hundred rows) and opened in
two fresh processes, one after another: the second finds the columns that the first has kept. Measured is what
training does before its first batch: rows, units, preflight, count of updates, plan of the first epoch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_WORDS = 5000
_SPEAKERS = 2400
_MIB = 2**20


def write_rows(path: Path, rows: int) -> None:
    """Write a manifest without its audio."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, size=size)) for size in random.integers(2, 9, size=_WORDS)]
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            seconds = round(1.5 + 15 * float(random.beta(4, 2)), 3)
            text = " ".join(words[place] for place in random.integers(0, _WORDS, size=round(2.7 * seconds)))
            speaker = row * _SPEAKERS // rows
            name = f"{speaker}-{row:08d}"
            fields = {"audio_filepath": f"train/{speaker}/{name}.flac", "text": text, "duration": seconds}
            file.write(json.dumps(fields | {"id": name, "speaker": str(speaker)}) + "\n")


def measure(path: Path) -> dict[str, float]:
    """Processor seconds of each step, both clocks of all, and MiB at the peak above what the imports take."""
    from asr_lstm.batching import DataConfig
    from asr_lstm.data import SpeechData
    from asr_lstm.features import FeatureConfig
    from asr_lstm.manifest_index import open_manifest, summarise
    from asr_lstm.model import EncoderConfig
    from asr_lstm.preflight import check_training_data
    from asr_lstm.units import CharacterUnits, Normaliser

    before, begun, clock = _peak(), time.process_time(), time.perf_counter()
    figures: dict[str, float] = {}

    def done(step: str) -> None:
        figures[step] = time.process_time() - begun - sum(figures.values())

    normaliser, config = Normaliser(), DataConfig()
    train = open_manifest(path, normaliser)
    done("open")
    units = CharacterUnits.from_characters(summarise(train, normaliser).counts, normaliser)
    checked = check_training_data(
        train,
        units=units,
        features=FeatureConfig(),
        encoder=EncoderConfig(),
        speed=0.1,
        batch_seconds=config.batch_seconds,
    )
    done("preflight")
    data = SpeechData(
        checked.kept,
        train[:1],
        units,
        lambda utterance: np.zeros(0, np.float32),
        config=config,
        augment=None,
        seed=0,
    )
    data.total_updates(20)
    done("count updates")
    next(iter(data.sampler))
    done("first plan")
    processor, wall = time.process_time() - begun, time.perf_counter() - clock
    return figures | {"processor": processor, "wall clock": wall, "MiB": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB


def main() -> None:
    """Make a manifest and measure a first and a later start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--manifest", type=Path, help="measure this one instead")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.manifest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.manifest or Path(folder, "train.jsonl")
        if options.manifest is None:
            write_rows(path, options.rows)
        print(f"{path.stat().st_size / _MIB:.0f} MiB of manifest")
        for start in ("first start", "later start"):
            command = [sys.executable, __file__, "--manifest", str(path), "--once"]
            figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(f"{start}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
