"""The languages that espeak-ng speaks, and their accents."""

from __future__ import annotations

import re
from difflib import get_close_matches

from asr_lstm.corpora.espeak import find_espeak, language_files
from asr_lstm.errors import ConfigError

_CODE = re.compile(r"^language\s+(\S+)", re.MULTILINE)
_SCRIPT = re.compile(
    r"-([a-z]{4})(?=-|$)"
)  # as in BCP 47: `cmn-latn-pinyin` reads another spelling than `cmn`


def find_accents(lang: str) -> list[str]:
    """The espeak-ng voices that read text in `lang`, sorted: for `en` these are en, en-029, en-gb-scotland, en-us, ...

    Those that read another script are not among them, unless `lang` names that script.

    Raises:
        ConfigError: espeak-ng is not installed, or has no such language.
    """
    voices = _voices()
    wanted = lang.lower()
    same_script = {name: codes for name, codes in voices.items() if _script(name) == _script(wanted)}
    own = [
        name
        for name, codes in same_script.items()
        if _is_accent(name, wanted) or _is_accent(codes[0], wanted)
    ]
    # Further codes say what a voice may stand in for: `no` is not the name of nb, but it speaks for it.
    found = own or [name for name, codes in same_script.items() if wanted in codes]
    if own or len(found) == 1:
        return sorted(found)
    known = {code for name, codes in voices.items() for code in (name, *codes)}
    close = found or get_close_matches(wanted, known, n=3) or sorted(voices)
    raise ConfigError(f"lang: espeak-ng has no language {lang!r}; there are {', '.join(close)}")


def find_voice(lang: str) -> str:
    """The one espeak-ng voice that says words as `lang` does: of that name, else of which it is the first code.

    Raises:
        ConfigError: as `find_accents`.
    """
    accents, voices, wanted = find_accents(lang), _voices(), lang.lower()
    named = [name for name in accents if name == wanted]
    first = [name for name in accents if voices[name][0] == wanted]
    return [*named, *first, *accents][0]


def _voices() -> dict[str, list[str]]:
    """espeak-ng's voices by name, with the codes of what they speak, their own first."""
    _, data = find_espeak()
    return {
        path.name.lower(): [code.lower() for code in _CODE.findall(path.read_text(encoding="utf-8"))]
        or [path.name]
        for path in language_files(data)
    }


def _is_accent(name: str, wanted: str) -> bool:
    return f"{name}-".startswith(f"{wanted}-")


def _script(code: str) -> list[str]:
    return _SCRIPT.findall(code)
