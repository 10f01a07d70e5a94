"""What training will meet, found out before the first step.

`check_training_data` is what the training stage asks of its own rows; `inspect_corpus` looks through all splits
with their audio, and `preflight_command` shows what it found on the console and as a page.
"""

from __future__ import annotations

from asr_lstm.preflight.memory import count_parameters, training_memory
from asr_lstm.preflight.training import (
    NO_DURATION,
    TOO_SHORT,
    Figures,
    Preflight,
    check_training_data,
)

__all__ = [
    "NO_DURATION",
    "TOO_SHORT",
    "Figures",
    "Preflight",
    "check_training_data",
    "count_parameters",
    "training_memory",
]
