"""What was recognised of a split, on disk: `decoded/SPLIT.DECODER.jsonl` of an experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asr_lstm.errors import AudioError
from asr_lstm.evaluate import DECODER
from asr_lstm.files import atomic_write
from asr_lstm.recognise import Recognition, Recognitions


def decode_stage(split: str, decoder: str) -> str:
    """The name of the stage that decodes a split."""
    return f"decode {split}" if decoder == DECODER else f"decode {split} {decoder}"


def write_recognitions(path: Path, recognitions: Recognitions) -> None:
    """Write what was recognised, a JSON object for each utterance in the manifest's order."""
    with atomic_write(path) as file:
        for item in recognitions.items:
            row: dict[str, Any] = {"text": item.text}
            if item.error is not None:
                row["error"] = str(item.error)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_recognitions(path: Path, *, seconds: float = 0.0, audio_seconds: float = 0.0) -> Recognitions:
    """Read what `write_recognitions` wrote; the seconds are remembered elsewhere."""
    items = []
    # Not splitlines: a file's name within an error may hold other characters that end a line.
    for index, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
        row = json.loads(line)
        error = AudioError(row["error"]) if "error" in row else None
        items.append(Recognition(index, row["text"], error))
    return Recognitions(items, seconds, audio_seconds)
