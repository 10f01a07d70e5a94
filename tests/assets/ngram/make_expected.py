"""Makes expected.json and pruned.arpa with kenlm: python make_expected.py FOLDER_OF_LMPLZ_AND_QUERY.

Run by hand, with a Python that has kenlm, when a case is added; the tests read what it made.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import kenlm

HERE = Path(__file__).parent
CASES = {
    "order 1": ["-o", "1"],
    "order 2": ["-o", "2"],
    "order 3": ["-o", "3"],
    "order 5": ["-o", "5"],
    "order 4, prune 0 0 1": ["-o", "4", "--prune", "0", "0", "1"],
    "order 3, prune 1 1 2": ["-o", "3", "--prune", "1", "1", "2"],
    "order 2, words.txt": ["-o", "2", "--limit_vocab_file", "words.txt"],
}
SAMPLE = 40  # n-grams of each order


def run(program: str, *arguments: str, stdin: str = "") -> str:
    command = [str(Path(sys.argv[1]) / program), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, cwd=HERE)
    return done.stdout


def train(*options: str) -> str:
    return run("lmplz", *options, "--discount_fallback", "-S", "500M", "-T", "/tmp", "--text", "text.txt")


def sample(arpa: str) -> dict[str, object]:
    """The counts of an ARPA file and some of its n-grams: [words, log10 probability, log10 back-off weight]."""
    header, *sections = arpa.removesuffix("\n\\end\\\n").split("-grams:\n")
    counts = [int(line.partition("=")[2]) for line in header.splitlines() if line.startswith("ngram ")]
    ngrams = []
    for section in sections:
        lines = [line for line in section.splitlines() if "\t" in line]
        for line in random.Random(0).sample(lines, min(SAMPLE, len(lines))):
            prob, words, *backoff = line.split("\t")
            ngrams.append([words, float(prob), float(backoff[0]) if backoff else 0.0])
    return {"counts": counts, "ngrams": ngrams}


def score(arpa: str, text: str) -> dict[str, object]:
    """kenlm's log10 probabilities of each word and of </s>, and its perplexities."""
    model = kenlm.Model(str(HERE / arpa))
    lines = (HERE / text).read_text(encoding="utf-8").splitlines()
    query = run("query", arpa, stdin=(HERE / text).read_text(encoding="utf-8"))
    including, excluding, unknown, tokens = (line.split("\t")[1] for line in query.splitlines()[-4:])
    return {
        "words": [[round(prob, 6) for prob, _, _ in model.full_scores(line)] for line in lines],
        "including_unknown": float(including),
        "excluding_unknown": float(excluding),
        "unknown": int(unknown),
        "tokens": int(tokens),
    }


def main() -> None:
    (HERE / "pruned.arpa").write_text(train("-o", "4", "--prune", "0", "1"), encoding="utf-8")
    expected = {
        "training": {name: sample(train(*options)) for name, options in CASES.items()},
        "scores": {
            "pruned.arpa": score("pruned.arpa", "heldout.txt"),
            "gaps.arpa": score("gaps.arpa", "gaps.txt"),
        },
    }
    text = json.dumps(expected, indent=None, separators=(",", ":"), ensure_ascii=False)
    (HERE / "expected.json").write_text(text.replace("],", "],\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
