"""`asr-lstm VERB`: each verb is a library function, imported only when it is called."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asr_lstm import __version__
from asr_lstm.errors import AsrLstmError, DownloadError, TrainingInterrupted

DONE, SOME_FAILED, NO_SENSE = 0, 1, 2
# Bytes of a name that are not UTF-8 are no text to the parser: for it, characters of a private use stand there.
_HIDDEN = {0xDC00 + byte: 0xF0000 + byte for byte in range(0x80, 0x100)}
_SHOWN = {hidden: byte for byte, hidden in _HIDDEN.items()}
INTERRUPTED = 130  # what a shell reports for a process ended by Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 all done; 1 something failed, the rest was done and the failures are listed on standard error; 2 the
        command or its input made no sense; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments.pop(0) if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        print(_overview())
        return DONE
    if verb == "--version":
        print(__version__)
        return DONE
    if verb not in VERBS:
        return _complain(f"asr-lstm: no such verb: {verb}; there are {', '.join(VERBS)}")
    for stream in (sys.stdout, sys.stderr):  # of a terminal that lacks a letter, or of a name that has none
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("asr_lstm").setLevel(logging.INFO)
    try:
        return VERBS[verb](arguments)
    except TrainingInterrupted as error:
        print(f"{error}, without --fresh" if "--fresh" in arguments else error, file=sys.stderr)
        return INTERRUPTED
    except DownloadError as error:
        print(f"asr-lstm {verb}: {error}", file=sys.stderr)
        return SOME_FAILED
    except AsrLstmError as error:
        return _complain(f"asr-lstm {verb}: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        from asr_lstm.console import print_to_nobody  # rich is not for every start

        print_to_nobody()
        return DONE
    except OSError as error:  # a full disk, a folder without permission to write
        return _complain(f"asr-lstm {verb}: {error}")


def _recipe(arguments: list[str]) -> int:
    """prepare, train, decode, score, report: recipe FOLDER [--training.epochs 3 ...] [--seeds 3] [--set KEY=A,B]"""
    from asr_lstm import parallel

    if parallel.follows():  # one of several processes that torchrun started, but for the first
        return parallel.follow()
    if not arguments or arguments[0] in ("-h", "--help"):
        from asr_lstm.config import recipe_parser

        recipe_parser().print_help()
        return DONE if arguments else NO_SENSE
    from asr_lstm.grid import recipe_command

    return recipe_command(arguments)


def _train(arguments: list[str]) -> int:
    """one's own recordings, with settings that suit them: train --manifest FILE [--minutes 60] [--lang CODE]"""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "asr-lstm train --manifest FILE [--dev FILE] [--minutes 60] [--lang CODE] [--output exp/NAME] [--fresh]\n"
            "[options of a recipe, such as --training.epochs 10; asr-lstm recipe --help has them]"
        )
        return DONE if arguments else NO_SENSE
    from asr_lstm import parallel

    if parallel.follows():
        return parallel.follow()
    from asr_lstm.train import train_command

    return train_command(arguments)


def _prepare(arguments: list[str]) -> int:
    """write manifests: prepare CORPUS SOURCE [--output DIR]"""
    from asr_lstm.corpora.command import prepare_command

    return prepare_command(arguments)


def _preflight(arguments: list[str]) -> int:
    """look through training data before training: preflight --manifest FILE"""
    from asr_lstm.preflight.command import preflight_command

    return _call(preflight_command, arguments, verb="preflight", several="manifest")


def _shard(arguments: list[str]) -> int:
    """pack recordings into a few large files: shard --manifest FILE --output DIR"""
    from asr_lstm.shards import shard_command

    return _call(shard_command, arguments, verb="shard")


def _align(arguments: list[str]) -> int:
    """when each word of known text is said: align --model BUNDLE --manifest FILE [--format textgrid --output DIR]"""
    from asr_lstm.alignment import align_command

    return _call(align_command, arguments, verb="align")


def _lm(arguments: list[str]) -> int:
    """language models: lm train [--kind lstm] | perplexity | interpolate | generate ..."""
    from asr_lstm.lm.commands import (
        interpolate_command,
        ngram_train_command,
        perplexity_command,
        train_action,
    )
    from asr_lstm.lm.neural.command import generate_command

    actions: dict[str, Callable[..., int]] = {
        "train": ngram_train_command,
        "perplexity": perplexity_command,
        "interpolate": interpolate_command,
        "generate": generate_command,
    }
    action, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if action in ("-h", "--help"):
        print(f"asr-lstm lm ACTION ...; ACTION is one of {', '.join(actions)}; each has --help")
        return DONE if arguments else NO_SENSE
    if action not in actions:
        return _complain(f"asr-lstm lm: no such action: {action}; there are {', '.join(actions)}")
    if action == "train":
        kind, rest = train_action(rest)
        if kind == "lstm":
            from asr_lstm.lm_training.command import lstm_train_command

            return _call(lstm_train_command, rest, verb="lm train --kind lstm", config=True)
    return _call(actions[action], rest, verb=f"lm {action}")


def _compare(arguments: list[str]) -> int:
    """is one better than the other, or was it chance: compare exp/A exp/B [--split dev]"""
    from asr_lstm.compare import compare_command

    return _call(compare_command, arguments, verb="compare", files="folders")


def _study(arguments: list[str]) -> int:
    """variants of a recipe side by side: study recipes/dropout_study [--training.epochs 12 ...]"""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "asr-lstm study FOLDER-OR-STUDY.YAML [--output exp] [--fresh] [options of the recipe for all variants]"
        )
        return DONE if arguments else NO_SENSE
    from asr_lstm.study import study_command

    return study_command(Path(arguments[0]), arguments[1:])


def _report(arguments: list[str]) -> int:
    """make report.html of an experiment anew: report exp/NAME [--split test-clean]"""
    from asr_lstm.report_page import report_command

    return _call(report_command, arguments, verb="report", positional="folder")


def _doctor(arguments: list[str]) -> int:
    """what this machine has, and what to do about what it lacks: doctor [--build]"""
    from asr_lstm.doctor import doctor_command

    if {"-h", "--help"} & set(arguments):
        print(f"asr-lstm doctor [--build]: {_doctor.__doc__}")
        return DONE
    if unknown := sorted(set(arguments) - {"--build"}):  # no parser here: it may be what is broken
        return _complain(f"asr-lstm doctor: no such option: {unknown[0]}; there is --build")
    return doctor_command(build="--build" in arguments)


def _evaluate(arguments: list[str]) -> int:
    """recognise and score a manifest: evaluate --model BUNDLE --manifest FILE [--output results.json]"""
    from asr_lstm.evaluate import evaluate_command

    return _call(evaluate_command, arguments, verb="evaluate")


def _tune(arguments: list[str]) -> int:
    """find a beam search's weights on dev, kept in the model: tune --model M --manifest DEV --decoder beam --lm LM"""
    from asr_lstm.tuning_command import tune_command

    return _call(tune_command, arguments, verb="tune")


def _transcribe(arguments: list[str]) -> int:
    """write down what is said: transcribe --model BUNDLE FILE... [--format json]"""
    from asr_lstm.transcribe import transcribe_command

    return _call(transcribe_command, arguments, verb="transcribe", files="paths")


VERBS: dict[str, Callable[[list[str]], int]] = {
    "recipe": _recipe,
    "train": _train,
    "prepare": _prepare,
    "preflight": _preflight,
    "evaluate": _evaluate,
    "tune": _tune,
    "transcribe": _transcribe,
    "shard": _shard,
    "align": _align,
    "lm": _lm,
    "compare": _compare,
    "study": _study,
    "report": _report,
    "doctor": _doctor,
}


def _call(
    function: Callable[..., int],
    arguments: list[str],
    *,
    verb: str,
    files: str = "",
    positional: str = "",
    several: str = "",
    config: bool = False,
) -> int:
    """Parse what a function takes from its signature and call it.

    Args:
        function: its keyword arguments become options, its docstring their help.
        arguments: of the command line.
        verb: for messages.
        files: name of the argument that takes all positional ones.
        positional: name of the one argument that is not an option.
        several: name of an option that takes one path or more.
        config: take the options from a file as well.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(prog=f"asr-lstm {verb}", exit_on_error=False, allow_abbrev=False)
    if files:
        parser.add_argument(files, nargs="+", type=Path, help="the files")
    if positional:
        parser.add_argument(positional, type=Path, help="the folder")
    if several:
        extend: dict[str, Any] = {"nargs": "+", "action": "extend", "type": Path, "required": True}
        parser.add_argument(f"--{several}", help="one or more paths", **extend)
    if config:
        parser.add_argument("--config", action="config", help="a .yaml with these options")
    parser.add_function_arguments(function, skip={files, positional, several})
    try:
        options = parser.instantiate(
            parser.parse_args([word.translate(_HIDDEN) for word in arguments])
        ).as_dict()
    except (ArgumentError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return _complain(f"asr-lstm {verb}: {' '.join(lines)}; see asr-lstm {verb} --help")
    options.pop("config", None)
    return function(**{name: _shown(value) for name, value in options.items()})


def _shown(value: Any) -> Any:
    """Paths with the bytes that they had on the command line."""
    if isinstance(value, list):
        return [*map(_shown, value)]
    return Path(str(value).translate(_SHOWN)) if isinstance(value, Path) else value


def _overview() -> str:
    lines = [f"  {verb:<12}{function.__doc__}" for verb, function in VERBS.items()]
    return "asr-lstm VERB ...: speech recognition with bidirectional LSTMs\n\n" + "\n".join(lines)


def _complain(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)  # one line, even where a file's name has more
    return NO_SENSE


if __name__ == "__main__":
    raise SystemExit(main())
