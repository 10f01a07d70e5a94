"""A dev set on which a small recogniser errs, and a language model for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.manifest import Utterance, write_manifest

RATE = 8000
# So alike that a language model cannot tell all of them apart.
WORDS = ["".join(letters) for letters in itertools.product("abde", "ae", "bcd")]
SPEAKERS = 6


def make_dev(folder: Path, synthetic_speech: Callable) -> list[Utterance]:
    """24 utterances of 24 words in `dev.jsonl`, most so noisy that the recogniser errs."""
    random = np.random.default_rng(7)
    utterances = []
    for index in range(24):
        text = " ".join(random.choice(WORDS, size=3))
        path = folder / f"{index:02}.wav"
        samples = synthetic_speech(text, seed=index, noise=(1e-3, 0.16, 0.25)[index % 3])
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        speaker = f"speaker {index % SPEAKERS}"
        utterances.append(Utterance(path, text, len(samples) / RATE, speaker=speaker))
    write_manifest(folder / "dev.jsonl", utterances)
    return utterances


def make_lm(folder: Path) -> Path:
    """A bigram model of the words."""
    path = folder / "lm.arpa"
    save_ngram(path, train_ngram([" ".join(WORDS), " ".join(WORDS[::-1]), *WORDS], order=2))
    return path
