"""How espeak-ng says words, asked of a process of its own: its library has one state a process.

`python -m asr_lstm.corpora.pronounce LANG` reads a JSON list of words and writes one of their pronunciations. This
module must stay quick to import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from asr_lstm.corpora.espeak import Espeak, Voice
from asr_lstm.corpora.espeak_pool import child_environment
from asr_lstm.errors import AsrLstmError, ConfigError, DataError


def pronounce(words: Sequence[str], *, lang: str) -> list[str]:
    """The pronunciation of each word in the International Phonetic Alphabet, "" where espeak-ng has none.

    Args:
        words: one or more at a time; each is said by itself.
        lang: the name of a voice of espeak-ng, such as `en-us` (`asr_lstm.corpora.accents.find_voice`).

    Raises:
        ConfigError: espeakng-loader is not installed, or there is no such language.
        DataError: the process dies.
    """
    done = subprocess.run(
        [sys.executable, "-m", "asr_lstm.corpora.pronounce", lang],
        env=child_environment(),
        input=json.dumps(list(words)),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        raise DataError(f"{lang}: the espeak-ng process ended with status {done.returncode}; try again")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise ConfigError(answer["error"])
    said: list[str] = answer["said"]
    return said


def main() -> int:
    """Answer the words on standard input on standard output."""
    try:
        espeak = Espeak(Voice(sys.argv[1]))
        answer: dict[str, Any] = {"said": [espeak.phonemes(word) for word in json.load(sys.stdin)]}
    except AsrLstmError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
