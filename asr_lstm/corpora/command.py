"""`asr-lstm prepare CORPUS SOURCE`: the manifests of a corpus without the rest of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asr_lstm.corpora import Prepared
from asr_lstm.errors import ConfigError
from asr_lstm.functions import find_function

# Each takes `output`, and `source` unless it makes its recordings; what else it takes is an option of the verb.
CORPORA = {
    "digits": "asr_lstm.corpora.digits.prepare_digits",
    "folder": "asr_lstm.corpora.folder.prepare_folder",
    "librispeech": "asr_lstm.corpora.librispeech.prepare_librispeech",
    "speechocean762": "asr_lstm.corpora.speechocean762.prepare_speechocean762",
    "synthetic": "asr_lstm.corpora.spoken_text.prepare_spoken_text",
    "yesno": "asr_lstm.corpora.yesno.prepare_yesno",
}


def prepare_command(arguments: Sequence[str]) -> int:
    """Write the manifests of a corpus and print `SPLIT<tab>PATH` of each.

    Args:
        arguments: `CORPUS SOURCE [--output FOLDER] [options of that corpus]`, or `synthetic --lang CODE --text
            FILE...`; without a folder the manifests go to exp/CORPUS/manifests, where a recipe of that name has
            them.

    Returns:
        0.

    Raises:
        ConfigError: no such corpus or option.
        DataError: the source cannot be used.
    """
    from jsonargparse import ArgumentError

    corpus = arguments[0] if arguments else ""
    if corpus in ("-h", "--help"):
        print(f"prepare CORPUS SOURCE [--output FOLDER] ...; CORPUS is one of {', '.join(CORPORA)}")
        return 0
    if corpus not in CORPORA:
        raise ConfigError(
            f"{corpus or 'nothing'} is not a corpus; say prepare CORPUS SOURCE with one of {', '.join(CORPORA)}"
        )
    prepare = find_function(CORPORA[corpus])
    parser = _parser(corpus, prepare)
    try:
        options = parser.instantiate(parser.parse_args(list(arguments[1:]))).as_dict()
        prepared = prepare(options.pop("output"), **options)
    except (ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{reason}; see asr-lstm prepare {corpus} --help") from error
    manifests = prepared.manifests if isinstance(prepared, Prepared) else prepared
    for split, path in manifests.items():
        print(f"{split}\t{path}")
    return 0


def _parser(corpus: str, prepare: Callable[..., Any]) -> Any:
    """What a corpus takes on the command line, from the signature of its function."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"asr-lstm prepare {corpus}", exit_on_error=False, allow_abbrev=False)
    names = inspect.signature(prepare).parameters
    if "source" in names:
        default = names["source"].default
        needed = default is inspect.Parameter.empty
        parser.add_argument(
            "source", help="the recordings", **({} if needed else {"nargs": "?", "default": default})
        )
    if "text" in names:
        text: dict[str, Any] = {"nargs": "+", "action": "extend", "type": Path, "required": True}
        parser.add_argument("--text", help="files with a sentence a line or with prose, or manifests", **text)
    parser.add_argument(
        "--output", type=Path, default=Path("exp", corpus, "manifests"), help="folder for the manifests"
    )
    apart: set[str | int] = {"source", "output", "text", "sentences"}
    parser.add_function_arguments(prepare, skip=apart & set(names))
    return parser
