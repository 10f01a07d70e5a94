"""What `asr-lstm lm` does: train and interpolate n-gram models, and the perplexity of any model."""

from __future__ import annotations

import logging
import math
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from asr_lstm.console import ReaderConsole
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.lm.interpolate import interpolate, tune_weight
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import check_name, load_ngram, save_ngram
from asr_lstm.lm.ngram import NgramModel
from asr_lstm.lm.perplexity import Perplexity, perplexity
from asr_lstm.lm.text import read_lines, read_sentences, spell
from asr_lstm.units import Normaliser

Casing = Literal["lower", "upper", "keep"]
Punctuation = Literal["keep", "remove"]
Sentences = Literal["lines", "prose"]
Tokens = Literal["words", "characters"]
Rows = dict[str, str]  # figures by name, as they are shown

log = logging.getLogger(__name__)


def read_texts(
    paths: Path | list[Path],
    *,
    casing: Casing = "lower",
    punctuation: Punctuation = "remove",
    sentences: Sentences = "lines",
    tokens: Tokens = "words",
) -> Iterator[str]:
    """The sentences of text files as a language model takes them: normalised, words parted by single spaces.

    Args:
        paths: text files, plain or gz, or manifests (.jsonl, .json).
        casing: "lower", "upper" or "keep", as the recogniser writes.
        punctuation: "remove" or "keep", as the recogniser writes.
        sentences: "lines" takes each line for a sentence; "prose" finds them where lines are broken anywhere.
        tokens: "words", or "characters" for a model over single characters.

    Raises:
        DataError: a file that cannot be read or is not UTF-8 text, or there are no words.
    """
    normalise = Normaliser(casing=casing, punctuation=punctuation)
    empty = True
    for line in read_sentences(paths, prose=sentences == "prose"):
        text = normalise(line)
        empty = empty and not text
        yield spell(text) if tokens == "characters" else text
    if empty:
        named = ", ".join(map(str, [paths] if isinstance(paths, Path) else paths))
        raise DataError(f"{named}: the text holds no words; give one with a sentence a line")


def ngram_train_command(
    *,
    text: Path | list[Path],
    output: Path,
    order: int = 3,
    prune: list[int] | None = None,
    vocabulary: int | Path | None = None,
    tokens: Tokens = "words",
    casing: Casing = "lower",
    punctuation: Punctuation = "remove",
    sentences: Sentences = "lines",
) -> int:
    """Train an n-gram model with modified Kneser-Ney smoothing; for an LSTM see `lm train --kind lstm --help`.

    Args:
        text: a text file, plain or gz, or a manifest (.jsonl, .json); or several, as [A, B].
        output: the model to write: .arpa, .arpa.gz, or .ngram for the compact binary form.
        order: length of the longest n-grams.
        prune: leave out n-grams that occur this often or less, by order from 1; the last number goes for all
            higher orders: [0, 0, 1] leaves out what is seen once, from 3-grams up.
        vocabulary: a file with the words to keep, or how many of the most frequent; all by default.
        tokens: "words", or "characters" for a model over single characters.
        casing: "lower", "upper" or "keep", as the recogniser writes.
        punctuation: "remove" or "keep", as the recogniser writes.
        sentences: "lines" takes each line for a sentence; "prose" finds them where lines are broken anywhere.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: an order, pruning or vocabulary that makes no sense.
        DataError: a text that cannot be used, or `output` cannot be written.
    """
    check_name(output)
    words: int | set[str] | None
    if isinstance(vocabulary, Path):
        normalise = Normaliser(casing=casing, punctuation=punctuation)
        listed = read_lines(vocabulary)
        kept = listed if tokens == "characters" else map(normalise, listed)
        words = {word for line in kept for word in line.split()}
    else:
        words = vocabulary
    lines = read_texts(text, casing=casing, punctuation=punctuation, sentences=sentences, tokens=tokens)
    start = time.perf_counter()
    model = train_ngram(lines, order=order, prune=prune or (), vocabulary=words)
    save_ngram(output, model)
    _print_model(output, model, seconds=time.perf_counter() - start)
    return 0


def perplexity_command(
    *,
    lm: Path | list[Path],
    text: Path | list[Path],
    tokens: Tokens = "words",
    casing: Casing = "lower",
    punctuation: Punctuation = "remove",
    sentences: Sentences = "lines",
) -> int:
    """Print how well a language model predicts a text; of several models side by side.

    Args:
        lm: the model: an ARPA file, plain or gz, its binary form, or the folder of an LSTM model; or several, as
            [A, B].
        text: a text file, plain or gz, or a manifest (.jsonl, .json); or several, as [A, B].
        tokens: what an n-gram model was trained on.
        casing: as in its training; an LSTM model knows its own.
        punctuation: likewise.
        sentences: "lines" takes each line for a sentence; "prose" finds them where lines are broken anywhere.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: a folder that holds no model.
        DataError: a model or the text cannot be used.
    """
    columns = []
    paths = [lm] if isinstance(lm, Path) else lm
    for path in paths:
        if path.is_dir():
            columns.append(_neural_rows(path, text, sentences=sentences))
            continue
        lines = read_texts(text, casing=casing, punctuation=punctuation, sentences=sentences, tokens=tokens)
        columns.append(_rows(perplexity(load_ngram(path), lines), tokens=tokens))
    unknown = {column["unknown words"] for column in columns if "unknown words" in column}
    if len(unknown) > 1:
        log.warning("the models know different words: their perplexities cannot be compared")
    _print_columns(columns, heads=[str(path) for path in paths] if len(paths) > 1 else ())
    return 0


def interpolate_command(
    *,
    models: list[Path],
    text: Path | list[Path],
    output: Path,
    tokens: Tokens = "words",
    casing: Casing = "lower",
    punctuation: Punctuation = "remove",
    sentences: Sentences = "lines",
) -> int:
    """Mix two n-gram models into one, weighted so that a text like what is to be recognised is likeliest.

    Args:
        models: the two models, as [A, B].
        text: what the weight is found on; nothing that either model was trained on.
        output: the model to write: .arpa, .arpa.gz, or .ngram for the compact binary form.
        tokens: what the models were trained on.
        casing: as in training.
        punctuation: as in training.
        sentences: as in training.

    Returns:
        The exit code 0.

    Raises:
        DataError: not two models, a model or a text that cannot be used, or `output` cannot be written.
    """
    check_name(output)
    if len(models) != 2:
        raise DataError(f"models: {len(models)} given; two can be mixed at a time")
    start = time.perf_counter()
    first, second = (load_ngram(path) for path in models)
    lines = list(read_texts(text, casing=casing, punctuation=punctuation, sentences=sentences, tokens=tokens))
    weight = tune_weight(first, second, lines)
    model = interpolate(first, second, weight=weight)
    save_ngram(output, model)
    print(f"weight {weight:.4f} of {models[0]}, {1 - weight:.4f} of {models[1]}")
    _print_model(output, model, seconds=time.perf_counter() - start)
    _print_perplexity(perplexity(model, lines), tokens=tokens)
    return 0


def _print_model(path: Path, model: NgramModel, *, seconds: float) -> None:
    counts = ", ".join(f"{count} {order}-grams" for order, count in enumerate(model.counts, start=1))
    print(f"{path}: {counts}; {seconds:.1f} s")


def _neural_rows(folder: Path, text: Path | list[Path], *, sentences: Sentences) -> Rows:
    from asr_lstm.lm.neural.bundle import load_neural
    from asr_lstm.lm.neural.scores import figures, measure, shown
    from asr_lstm.lm.neural.texts import read_text

    model = load_neural(folder)
    found = measure(model, read_text(text, normaliser=model.normaliser, sentences=sentences))
    return shown(figures(found, kind=model.units.kind))


def _rows(found: Perplexity, *, tokens: Tokens) -> Rows:
    rows = {
        "sentences": f"{found.sentences}",
        tokens: f"{found.words}",
        f"unknown {tokens}": f"{found.unknown} ({found.unknown / max(found.words, 1):.2%})",
        "perplexity": f"{found.including_unknown:.2f}",
        "perplexity, unknown left out": f"{found.excluding_unknown:.2f}",
    }
    if tokens == "characters":
        nats = math.log(found.including_unknown)
        rows |= {"nats a character": f"{nats:.4f}", "bits a character": f"{nats / math.log(2):.4f}"}
    return rows


def _print_perplexity(found: Perplexity, *, tokens: Tokens) -> None:
    _print_columns([_rows(found, tokens=tokens)])


def _print_columns(columns: Sequence[Rows], *, heads: Sequence[str] = ()) -> None:
    """A column of figures for each model, the rows by name."""
    table = Table(show_header=bool(heads))
    table.add_column(no_wrap=True)
    for head in heads or [""] * len(columns):
        table.add_column(Text(head), overflow="fold")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    ReaderConsole().print(table)


def train_action(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of model that the arguments of `lm train` ask for by `--kind`, and the other arguments.

    Returns:
        "ngram" or "lstm"; the first, where nothing is said.

    Raises:
        ConfigError: another kind.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--kind", nargs="?", default="ngram", const="")
    options, rest = parser.parse_known_args(arguments)
    if options.kind not in ("ngram", "lstm"):
        raise ConfigError(f"kind: {options.kind!r} is neither ngram nor lstm")
    return options.kind, rest
