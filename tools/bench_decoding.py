"""Time the beam search with an n-gram model of words against flashlight-text and pyctcdecode, in one run.

All search the same posteriors with the same beam, language model, weights and lexicon. A peer that is not installed
is left out with a line that says so; `--peers` names the Python of the environment that has them (flashlight-text and
pyctcdecode end at Python 3.12, and both want kenlm). Without a model the posteriors are made up of made-up words: for
a glance at the speed, as the word error rate then says nothing of speech.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from asr_lstm.bundle import load_bundle
from asr_lstm.decoding.beam import BEAM, BeamConfig, BeamDecoder
from asr_lstm.decoding.lexicon import read_lexicon, split_spellable
from asr_lstm.decoding.spelling import SpelledUnits
from asr_lstm.errors import AsrLstmError
from asr_lstm.evaluate import device_name
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import load_ngram, save_ngram
from asr_lstm.lm.ngram import SPECIAL_WORDS, NgramModel
from asr_lstm.manifest import read_manifest
from asr_lstm.recognise import hear_each
from asr_lstm.scoring import count_errors
from asr_lstm.units import CharacterUnits, Units

PEERS = ("flashlight-text", "pyctcdecode")
PEER_SCRIPT = Path(__file__).with_name("decoding_peers.py")
# Of made-up speech: as many words as a small task has, 25 frames a second and a letter in every third.
_WORDS, _SENTENCES, _FRAME_SECONDS, _FRAMES_A_LETTER = 2000, 4000, 0.04, 3
_SURE = (
    5.0  # how far the letter that was said stands above noise of deviation 1.5: some 15 % of words go wrong
)


@dataclass(frozen=True)
class Task:
    """What is decoded.

    Attributes:
        logits: of each utterance, (frames, units).
        references: what was said in each.
        seconds: of audio.
        units: of the recogniser.
        model: n-gram model of words.
        lexicon: the words that may be written.
    """

    logits: list[Tensor]
    references: list[str]
    seconds: float
    units: Units
    model: NgramModel
    lexicon: list[str]


@dataclass(frozen=True)
class Timing:
    """One decoder's row: seconds for a second of audio, and the word error rate, a fraction."""

    name: str
    rtf: float
    wer: float


def real_task(model: Path, manifest: Path, lm: Path, lexicon: Path | None) -> Task:
    """The utterances of a manifest as a bundle hears them; the lexicon is the language model's words by default."""
    bundle = load_bundle(model)
    rows = read_manifest(manifest)
    heard = hear_each(bundle, rows)
    ngram = load_ngram(lm)
    words = read_lexicon(lexicon) if lexicon else [word for word in ngram.words if word not in SPECIAL_WORDS]
    return Task(
        logits=list(heard.values()),
        references=[bundle.units.normaliser(rows[index].text) for index in heard],
        seconds=sum(rows[index].duration for index in heard),
        units=bundle.units,
        model=ngram,
        lexicon=split_spellable(words, bundle.units)[0],
    )


def synthetic_task(*, utterances: int, seed: int = 0) -> Task:
    """Made-up words in made-up sentences, and logits that say them through noise."""
    random = np.random.default_rng(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    units = CharacterUnits([" ", "'", *letters])
    words = list(
        dict.fromkeys("".join(random.choice(list(letters), random.integers(2, 9))) for _ in range(_WORDS))
    )
    shares = 1 / np.arange(1, len(words) + 1)  # Zipf's law
    sentences = [
        " ".join(random.choice(words, random.integers(4, 16), p=shares / shares.sum()))
        for _ in range(_SENTENCES)
    ]
    said = sentences[:utterances]
    logits = [_noisy(units.encode(text), len(units), random) for text in said]
    return Task(
        logits=logits,
        references=said,
        seconds=_FRAME_SECONDS * sum(map(len, logits)),
        units=units,
        model=train_ngram(sentences, order=3),
        lexicon=words,
    )


def _noisy(ids: Sequence[int], units: int, random: np.random.Generator) -> Tensor:
    frames = np.zeros(_FRAMES_A_LETTER * len(ids) + 1, np.int64)
    frames[1::_FRAMES_A_LETTER] = ids  # blanks between
    logits = random.normal(scale=1.5, size=(len(frames), units))
    logits[np.arange(len(frames)), frames] += _SURE
    return torch.from_numpy(logits).float()


def compare(task: Task, config: BeamConfig, *, rounds: int, python: str) -> tuple[list[Timing], list[str]]:
    """Time ours, alone and on all cores, and the peers.

    Returns:
        A row for each decoder, and a line for each that was left out.
    """
    decoder = BeamDecoder(task.units, config=config, word_model=task.model, lexicon=task.lexicon)
    open_decoder = BeamDecoder(task.units, config=config, word_model=task.model)
    threads = torch.get_num_threads()
    decoder.decode_each(task.logits[:1])  # compiles
    rows = [
        _ours("ours", task, decoder.with_config(threads=1), rounds, time.process_time),
        _ours("ours, any word", task, open_decoder.with_config(threads=1), rounds, time.process_time),
        _ours(f"ours, {threads} threads (wall clock)", task, decoder, rounds, time.perf_counter),
    ]
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), task, config, rounds=rounds)
        for name in PEERS:
            found = _peer(name, folder, python)
            if isinstance(found, str):
                left_out.append(f"{name}: left out, {found}")
            else:
                seconds, texts = found
                rows.append(Timing(name, min(seconds) / task.seconds, _wer(task, texts)))
    return rows, left_out


def _ours(name: str, task: Task, decoder: BeamDecoder, rounds: int, clock: Callable[[], float]) -> Timing:
    seconds = []
    for _ in range(rounds):
        start = clock()
        found = decoder.decode_each(task.logits)
        seconds.append(clock() - start)
    return Timing(name, min(seconds) / task.seconds, _wer(task, [nbest[0].text for nbest in found]))


def _wer(task: Task, texts: Sequence[str]) -> float:
    counts = count_errors(task.references, texts)
    return float(counts.errors.sum() / max(int(counts.length.sum()), 1))


def write_job(folder: Path, task: Task, config: BeamConfig, *, rounds: int) -> None:
    """What `decoding_peers.py` reads: log posteriors, the ARPA file, and all numbers."""
    np.savez(folder / "log_probs.npz", *(row.log_softmax(-1).numpy() for row in task.logits))
    save_ngram(folder / "lm.arpa", task.model)
    job = {
        "symbols": list(cast(SpelledUnits, task.units).symbols),
        "lexicon": task.lexicon,
        "lm": str(folder / "lm.arpa"),
        "beam": config.beam,
        "units_tried": config.units_tried,
        "score_margin": config.score_margin,
        "alpha": config.alpha,
        "beta": config.beta,
        "rounds": rounds,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


def _peer(name: str, folder: str, python: str) -> tuple[list[float], list[str]] | str:
    """Seconds of each round and the texts, or why there are none."""
    run = subprocess.run(
        [python, str(PEER_SCRIPT), name, folder], capture_output=True, text=True, check=False
    )
    if run.returncode:
        return f"it failed ({(run.stderr.strip().splitlines() or ['no message'])[-1]})"
    found = json.loads(run.stdout.splitlines()[-1])
    if "missing" in found:
        return f"not installed ({found['missing']})"
    return found["seconds"], found["texts"]


def table(rows: Sequence[Timing]) -> str:
    """The rows, each with its time as a multiple of ours alone."""
    lines = [f"{'decoder':<32}{'RTF':>10}{'of ours':>9}{'WER %':>8}"]
    for row in rows:
        lines.append(f"{row.name:<32}{row.rtf:>10.5f}{row.rtf / rows[0].rtf:>9.2f}{100 * row.wer:>8.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="the folder of a bundle; made-up posteriors without it")
    parser.add_argument("--manifest", type=Path, help="utterances with their texts")
    parser.add_argument("--lm", type=Path, help="n-gram model of words")
    parser.add_argument("--lexicon", type=Path, help="words that may be written; the model's by default")
    parser.add_argument("--beam", type=int, default=BEAM)
    parser.add_argument("--alpha", type=float, default=0.8)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--utterances", type=int, default=100, help="how many are made up")
    parser.add_argument("--peers", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(arguments)
    given = (options.model, options.manifest, options.lm)
    if any(given) and not all(given):
        parser.error("--model, --manifest and --lm go together")
    try:
        config = BeamConfig(beam=options.beam, alpha=options.alpha, beta=options.beta)
        task = (
            real_task(*given, options.lexicon)
            if all(given)
            else synthetic_task(utterances=options.utterances)
        )
        rows, left_out = compare(task, config, rounds=options.rounds, python=options.peers)
    except (AsrLstmError, ValueError) as error:
        parser.error(str(error))
    what = f"{options.manifest}" if all(given) else "made-up posteriors"
    print(
        f"beam {config.beam}, {task.model.order}-gram of {len(task.lexicon)} words, {len(task.logits)} utterances of "
        f"{what}, {task.seconds / 60:.1f} min; {device_name()}; processor time of one thread unless said otherwise\n"
    )
    print(table(rows))
    for line in left_out:
        print(line)
    if options.output:
        figures = {row.name: {"rtf": row.rtf, "wer": row.wer} for row in rows}
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
