"""`asr-lstm prepare CORPUS SOURCE`: the manifests of a corpus without the rest of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.errors import ConfigError
from asr_lstm.functions import find_function

# Each takes `output` and `source`; what else it takes is an option of the verb.
CORPORA = {
    "folder": "asr_lstm.corpora.folder.prepare_folder",
    "librispeech": "asr_lstm.corpora.librispeech.prepare_librispeech",
}


def prepare_command(arguments: Sequence[str]) -> int:
    """Write the manifests of a corpus and print `SPLIT<tab>PATH` of each.

    Args:
        arguments: `CORPUS SOURCE [--output FOLDER] [options of that corpus]`; without a folder the manifests go
            to exp/CORPUS/manifests, where a recipe of that name has them.

    Returns:
        0.

    Raises:
        ConfigError: no such corpus or option.
        DataError: the source cannot be used.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    corpus = arguments[0] if arguments else ""
    if corpus in ("-h", "--help"):
        print(f"prepare CORPUS SOURCE [--output FOLDER] ...; CORPUS is one of {', '.join(CORPORA)}")
        return 0
    if corpus not in CORPORA:
        raise ConfigError(
            f"{corpus or 'nothing'} is not a corpus; say prepare CORPUS SOURCE with one of {', '.join(CORPORA)}"
        )
    prepare = find_function(CORPORA[corpus])
    parser = ArgumentParser(prog=f"asr-lstm prepare {corpus}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("source", help="the recordings")
    parser.add_argument(
        "--output", type=Path, default=Path("exp", corpus, "manifests"), help="folder for the manifests"
    )
    parser.add_function_arguments(prepare, skip={"source", "output"})
    try:
        options = parser.parse_args(list(arguments[1:])).as_dict()
        prepared = prepare(options.pop("output"), **options)
    except (ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{reason}; see asr-lstm prepare {corpus} --help") from error
    manifests = prepared.manifests if isinstance(prepared, Prepared) else prepared
    for split, path in manifests.items():
        print(f"{split}\t{path}")
    return 0
