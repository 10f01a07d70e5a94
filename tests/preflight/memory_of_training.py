"""Train two steps in this process; print how far its memory rose, and the estimate, in bytes.

Usage: memory_of_training.py PRECISION ENCODER_OPTIONS
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import torch
from torch.nn import functional

from asr_lstm.allocator import keep_freed_memory
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.preflight.memory import training_memory

UNITS, RATE = 29, 16_000
UTTERANCES, SECONDS = 4, 8


def main(precision: str, options: str) -> None:
    keep_freed_memory()
    torch.manual_seed(0)
    bfloat16 = precision == "bf16-mixed"
    encoder = EncoderConfig(layers=3, hidden=192, **ast.literal_eval(options))
    _train(
        EncoderConfig(layers=1, hidden=8), utterances=1, seconds=1, bfloat16=bfloat16
    )  # libraries, threads
    before = _memory("VmRSS")
    model = _train(encoder, utterances=UTTERANCES, seconds=SECONDS, bfloat16=bfloat16)
    total = float(UTTERANCES * SECONDS)
    estimate = training_memory(model.front_end, encoder, units=UNITS, seconds=total, bfloat16=bfloat16)
    print(_memory("VmHWM") - before, estimate)


def _train(encoder: EncoderConfig, *, utterances: int, seconds: int, bfloat16: bool) -> Recogniser:
    model = Recogniser(FeatureConfig(), encoder, units=UNITS)
    optimizer = torch.optim.AdamW(model.parameters())
    lengths = torch.full((utterances,), seconds * RATE)
    targets, counts = torch.ones(utterances * 2, dtype=torch.long), torch.full((utterances,), 2)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits, frames = model(torch.randn(utterances, seconds * RATE) / 10, lengths)
        log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)
        functional.ctc_loss(log_probs, targets, frames, counts).backward()
        optimizer.step()
    return model


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
