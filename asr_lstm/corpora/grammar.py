"""Sentences for synthetic speech: a context-free grammar, and distinct sentences drawn from it."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr_lstm.errors import DataError

logger = logging.getLogger(__name__)

GRAMMAR_FILE = Path(__file__).with_name("grammar.txt")
MIN_WORDS, MAX_WORDS = 3, 25
MAX_DEPTH = 50  # rule within rule; only a rule that never ends goes deeper
_MAX_DRAWS = 1000  # draws in a row that give nothing new: the grammar is exhausted
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_SYMBOL = re.compile(r"<([^<>]+)>|(\S+)")

# An alternative is its weight and its symbols: (name, True) for a rule, (word, False) for a word.
Alternative = tuple[int, tuple[tuple[str, bool], ...]]


class Grammar:
    """A context-free grammar that can be sampled. The text's format stands at the head of grammar.txt."""

    def __init__(self, text: str, *, name: str = "grammar") -> None:
        """Parse `text`; `name` is what errors call it.

        Raises:
            DataError: a line that is no rule, a rule that is missing or given twice, or a bad word.
        """
        self.name = name
        self._rules: dict[str, list[Alternative]] = {}
        for number, rule, body in _logical_lines(text, name):
            if rule in self._rules:
                raise DataError(f"{name}:{number}: the rule {rule!r} is given twice")
            self._rules[rule] = [_parse_alternative(part, f"{name}:{number}") for part in body.split("|")]
        self._check()
        self._weights = {rule: [weight for weight, _ in parts] for rule, parts in self._rules.items()}

    def _check(self) -> None:
        if "sentence" not in self._rules:
            raise DataError(f"{self.name}: there is no rule `sentence` to begin with")
        used = {symbol for rule in self._rules for symbol in self._references(rule)} | {"sentence"}
        if missing := sorted(used - set(self._rules)):
            raise DataError(f"{self.name}: <{missing[0]}> is used, but there is no rule of that name")
        if unused := sorted(set(self._rules) - used):
            raise DataError(f"{self.name}: the rule {unused[0]!r} is used nowhere")

    def _references(self, rule: str) -> set[str]:
        return {text for _, symbols in self._rules[rule] for text, is_rule in symbols if is_rule}

    @property
    def words(self) -> set[str]:
        """Every word that the rules hold, and `an`, which sentences get for `a` before a vowel."""
        found = {
            text
            for parts in self._rules.values()
            for _, symbols in parts
            for text, is_rule in symbols
            if not is_rule
        }
        return found | ({"an"} if "a" in found else set())

    def sample(self, rng: random.Random) -> str:
        """Draw one sentence, words separated by a space.

        Raises:
            DataError: a rule that contains itself without an end.
        """
        return _join_articles(self._expand("sentence", rng, depth=0))

    def _expand(self, rule: str, rng: random.Random, *, depth: int) -> list[str]:
        if depth > MAX_DEPTH:
            raise DataError(f"{self.name}: the rule {rule!r} goes on without an end; give it another way out")
        _, symbols = rng.choices(self._rules[rule], self._weights[rule])[0]
        words: list[str] = []
        for text, is_rule in symbols:
            words += self._expand(text, rng, depth=depth + 1) if is_rule else [text]
        return words


def _logical_lines(text: str, name: str) -> list[tuple[int, str, str]]:
    """Return (line number, rule's name, its alternatives as text), continuation lines joined."""
    rules: list[tuple[int, str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and rules:
            first, rule, body = rules[-1]
            rules[-1] = (first, rule, f"{body} {line.strip()}")
        elif "=" in line and not line[0].isspace():
            rule, body = line.split("=", 1)
            rules.append((number, rule.strip(), body.strip()))
        else:
            raise DataError(f"{name}:{number}: not a rule; write `name = words | <other rule>`")
    return rules


def _parse_alternative(text: str, where: str) -> Alternative:
    weight = 1
    if match := re.match(r"\s*(\d+)\*", text):
        weight, text = int(match[1]), text[match.end() :]
    symbols = tuple((rule.strip() or word, bool(rule)) for rule, word in _SYMBOL.findall(text))
    if not symbols or weight < 1:
        raise DataError(f"{where}: an alternative is empty or has the weight 0")
    for symbol, is_rule in symbols:
        if not is_rule and not _WORD.fullmatch(symbol):
            raise DataError(f"{where}: {symbol!r} is not a word of lower-case letters and apostrophes")
    return weight, symbols


def _join_articles(words: Sequence[str]) -> str:
    """Write `an` for `a` before a vowel's sound (as spelt: u- as in `useful`, and `one`, take `a`)."""
    text = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        vowel = re.match(r"[aeio]|hour|honest|u(?!s|ni)", after) and not after.startswith("one")
        text.append(("an" if vowel else "a") if word in ("a", "an") else word)
    return " ".join(text)


def load_grammar() -> Grammar:
    """Return the grammar that comes with the package."""
    return Grammar(GRAMMAR_FILE.read_text(encoding="utf-8"), name=GRAMMAR_FILE.name)


def make_sentences(
    counts: Mapping[str, int],
    *,
    seed: int,
    grammar: Grammar | None = None,
    min_words: int = MIN_WORDS,
    max_words: int = MAX_WORDS,
) -> dict[str, list[str]]:
    """Draw that many sentences for each split; no sentence occurs twice, in one split or in two.

    The first split is the training split: every word of the others occurs in it, unless it is too small for
    that (a few hundred sentences), which is logged.

    Args:
        counts: split -> number of sentences, the training split first.
        seed: the same seed gives the same sentences.
        grammar: the package's own by default.
        min_words: fewest words of a sentence.
        max_words: most words of a sentence.

    Raises:
        DataError: the grammar has not so many sentences.
        ValueError: `counts` is empty or holds a negative number.
    """
    if not counts or min(counts.values()) < 0:
        raise ValueError(f"counts must hold numbers of sentences, not {dict(counts)}")
    grammar = grammar or load_grammar()
    rng = random.Random(seed)
    seen: set[str] = set()

    def draw(known: set[str] | None) -> str | None:
        """Return a sentence not yet seen, of `known` words where given; None when there seems to be none."""
        for _ in range(_MAX_DRAWS):
            sentence = grammar.sample(rng)
            words = sentence.split()
            fits = min_words <= len(words) <= max_words and (known is None or known.issuperset(words))
            if fits and sentence not in seen:
                seen.add(sentence)
                return sentence
        return None

    made: dict[str, list[str]] = {}
    known: set[str] | None = None
    for split, count in counts.items():
        made[split] = []
        for done in range(count):
            sentence = draw(known)
            if sentence is None and known is not None:
                logger.warning(
                    "%s: the training sentences are too few to hold every word of %s", grammar.name, split
                )
                known = None
                sentence = draw(known)
            if sentence is None:
                raise DataError(
                    f"{grammar.name}: no more than {done} of {count} sentences for {split}; ask for fewer or "
                    "widen the grammar"
                )
            made[split].append(sentence)
        if len(made) == 1:
            known = {word for sentence in made[split] for word in sentence.split()}
    return made
