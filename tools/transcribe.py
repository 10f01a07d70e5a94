"""`tools/transcribe.py --model MODEL FILE...` is `asr-lstm transcribe` under the name of a script."""

from __future__ import annotations

import sys

from asr_lstm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["transcribe", *sys.argv[1:]]))
