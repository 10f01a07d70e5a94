"""What `asr-lstm lm` does with n-gram models: train, perplexity, interpolate."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from asr_lstm.errors import DataError
from asr_lstm.lm.interpolate import interpolate, tune_weight
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import check_name, load_ngram, save_ngram
from asr_lstm.lm.ngram import NgramModel
from asr_lstm.lm.perplexity import Perplexity, perplexity
from asr_lstm.lm.text import read_lines, spell, split_sentences
from asr_lstm.units import Normaliser

Casing = Literal["lower", "upper", "keep"]
Punctuation = Literal["keep", "remove"]
Sentences = Literal["lines", "prose"]
Tokens = Literal["words", "characters"]


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
        paths: text files, plain or gz, or manifests (.jsonl).
        casing: "lower", "upper" or "keep", as the recogniser writes.
        punctuation: "remove" or "keep", as the recogniser writes.
        sentences: "lines" takes each line for a sentence; "prose" finds them in text with lines broken anywhere.
        tokens: "words", or "characters" for a model over single characters.

    Raises:
        DataError: a file that cannot be read or is not UTF-8 text.
    """
    normalise = Normaliser(casing=casing, punctuation=punctuation)
    lines: Iterable[str] = read_lines(paths)
    if sentences == "prose":
        lines = split_sentences(lines)
    for line in lines:
        text = normalise(line)
        yield spell(text) if tokens == "characters" else text


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
    """Train an n-gram model with modified Kneser-Ney smoothing and print how large it is.

    Args:
        text: a text file, plain or gz, or a manifest (.jsonl); or several, as [A, B].
        output: the model to write: .arpa, .arpa.gz, or .ngram for the compact binary form.
        order: length of the longest n-grams.
        prune: leave out n-grams that occur this often or less, by order from 1; the last number goes for all
            higher orders: [0, 0, 1] leaves out what is seen once, from 3-grams up.
        vocabulary: a file with the words to keep, or how many of the most frequent; all by default.
        tokens: "words", or "characters" for a model over single characters.
        casing: "lower", "upper" or "keep", as the recogniser writes.
        punctuation: "remove" or "keep", as the recogniser writes.
        sentences: "lines" takes each line for a sentence; "prose" finds them in text with lines broken anywhere.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: an order, pruning or vocabulary that makes no sense.
        DataError: a text that cannot be used, or `output` cannot be written.
    """
    check_name(output)
    words: int | set[str] | None
    if isinstance(vocabulary, Path):
        words = {word for line in read_lines(vocabulary) for word in line.split()}
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
    lm: Path,
    text: Path | list[Path],
    tokens: Tokens = "words",
    casing: Casing = "lower",
    punctuation: Punctuation = "remove",
    sentences: Sentences = "lines",
) -> int:
    """Print an n-gram model's perplexity on a text, with and without the words it does not know.

    Args:
        lm: the model: an ARPA file, plain or gz, or the binary form.
        text: a text file, plain or gz, or a manifest (.jsonl); or several, as [A, B].
        tokens: what the model was trained on.
        casing: as in training.
        punctuation: as in training.
        sentences: as in training.

    Returns:
        The exit code 0.

    Raises:
        DataError: the model or the text cannot be used.
    """
    model = load_ngram(lm)
    lines = read_texts(text, casing=casing, punctuation=punctuation, sentences=sentences, tokens=tokens)
    _print_perplexity(perplexity(model, lines), tokens=tokens)
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


def _print_perplexity(found: Perplexity, *, tokens: Tokens) -> None:
    table = Table(show_header=False)
    rows = {
        "sentences": f"{found.sentences}",
        tokens: f"{found.words}",
        f"unknown {tokens}": f"{found.unknown} ({found.unknown / max(found.words, 1):.2%})",
        "perplexity": f"{found.including_unknown:.2f}",
        "perplexity, unknown left out": f"{found.excluding_unknown:.2f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
