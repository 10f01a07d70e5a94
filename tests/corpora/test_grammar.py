from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest

from asr_lstm.corpora.grammar import Grammar, load_grammar, make_sentences
from asr_lstm.errors import DataError

# As many as the default stand-in has.
COUNTS = {"train": 3600, "dev": 200, "test": 400}


@pytest.fixture(scope="module")
def sentences() -> dict[str, list[str]]:
    return make_sentences(COUNTS, seed=1)


def words_of(sentences: list[str]) -> set[str]:
    return {word for sentence in sentences for word in sentence.split()}


def test_counts_lengths_and_letters(sentences):
    assert {split: len(made) for split, made in sentences.items()} == COUNTS
    lengths = [len(sentence.split()) for made in sentences.values() for sentence in made]
    assert min(lengths) >= 3
    assert 20 <= max(lengths) <= 25
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)+", sentence) for sentence in sentences["train"])


def test_no_sentence_twice_and_every_word_known(sentences):
    together = [sentence for made in sentences.values() for sentence in made]
    assert len(set(together)) == len(together)
    known = words_of(sentences["train"])
    assert len(known) >= 800
    assert words_of(sentences["dev"]) | words_of(sentences["test"]) <= known


def test_seed_decides(sentences):
    few = {"train": 50, "dev": 0}
    assert make_sentences(few, seed=1)["train"] == sentences["train"][:50]
    assert make_sentences(few, seed=2)["train"] != sentences["train"][:50]


def kneser_ney_perplexity(train: list[str], test: list[str]) -> float:
    """Interpolated Kneser-Ney trigram (Chen & Goodman 1998, section 2.7); the end of a sentence counts."""

    def trigrams(sentence: str) -> list[tuple[str, ...]]:
        words = ["<s>", "<s>", *sentence.split(), "</s>"]
        return [tuple(words[i - 2 : i + 1]) for i in range(2, len(words))]

    orders = [Counter(gram for sentence in train for gram in trigrams(sentence))]
    for _ in range(2):  # a lower order counts the distinct contexts to the left
        orders.append(Counter(gram[1:] for gram in orders[-1]))
    tables = []
    for counts in orders:
        once, twice = (sum(count == n for count in counts.values()) for n in (1, 2))
        totals: Counter[tuple[str, ...]] = Counter()
        kinds: Counter[tuple[str, ...]] = Counter()
        for gram, count in counts.items():
            totals[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        tables.append((counts, once / (once + 2 * twice), totals, kinds))

    def probability(gram: tuple[str, ...], order: int) -> float:
        if order == 3:
            return 1 / len(orders[2])
        counts, discount, totals, kinds = tables[order]
        lower = probability(gram[1:], order + 1)
        total = totals[gram[:-1]]
        if not total:
            return lower
        return max(counts[gram] - discount, 0) / total + discount * kinds[gram[:-1]] / total * lower

    # The probabilities after a context sum to one: else a perplexity means nothing.
    assert sum(probability(("<s>", "the", word[0]), 0) for word in orders[2]) == pytest.approx(1)
    logs = [math.log(probability(gram, 0)) for sentence in test for gram in trigrams(sentence)]
    return math.exp(-sum(logs) / len(logs))


def test_trigram_perplexity(sentences):
    assert 30 <= kneser_ney_perplexity(sentences["train"], sentences["test"]) <= 100


def test_no_two_words_sound_alike():
    pytest.importorskip("espeakng_loader")
    from asr_lstm.corpora.espeak import Espeak, Voice

    espeak = Espeak(Voice("en-us"))
    spellings: dict[str, set[str]] = {}
    for word in load_grammar().words:
        spellings.setdefault(re.sub("[ˈˌ]", "", espeak.phonemes(word)), set()).add(word)
    alike = {frozenset(words) for words in spellings.values() if len(words) > 1}
    # Words that English cannot do without; their neighbours, and the stress, tell them apart.
    assert alike == {frozenset({"for", "four"}), frozenset({"to", "two"})}
    assert espeak.phonemes("to paris") != espeak.phonemes("two paris")
    assert espeak.phonemes("for the cat") != espeak.phonemes("four the cat")


def test_weights_and_rules():
    grammar = Grammar("sentence = 3* a <thing> here | go on now\nthing = cat |\n    owl\n")
    rng = random.Random(0)
    drawn = Counter(grammar.sample(rng) for _ in range(4000))
    assert set(drawn) == {"a cat here", "an owl here", "go on now"}
    assert drawn["go on now"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert grammar.words == {"a", "an", "here", "go", "on", "now", "cat", "owl"}


@pytest.mark.parametrize(
    ("after", "article"),
    [("apple", "an"), ("hour", "an"), ("honest", "an"), ("uncle", "an"), ("useful", "a"), ("university", "a"),
     ("one", "a"), ("cat", "a"), ("house", "a")],
)  # fmt: skip
def test_article(after, article):
    grammar = Grammar(f"sentence = take a {after}")
    assert grammar.sample(random.Random(0)) == f"take {article} {after}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sentence = one\nsentence = two", r"toy:2: .*twice"),
        ("sentence = go <home>", r"toy: <home> is used"),
        ("sentence = go\nhome = there", r"toy: the rule 'home' is used nowhere"),
        ("home = there", r"no rule `sentence`"),
        ("sentence = go |", r"toy:1: .*empty"),
        ("sentence = 0* go", r"toy:1: .*weight 0"),
        ("sentence = Go 2 town", r"toy:1: 'Go' is not a word"),
        ("just words", r"toy:1: not a rule"),
    ],
)
def test_bad_grammar(text, message):
    with pytest.raises(DataError, match=message):
        Grammar(text, name="toy")


def test_rule_without_an_end():
    with pytest.raises(DataError, match="'sentence' goes on without an end"):
        Grammar("sentence = go <sentence>").sample(random.Random(0))


def test_exhausted_grammar():
    grammar = Grammar("sentence = one two <x> | one\nx = three | four", name="toy")
    assert sorted(make_sentences({"train": 2}, seed=0, grammar=grammar)["train"]) == [
        "one two four",
        "one two three",
    ]
    with pytest.raises(DataError, match="toy: no more than 2 of 3 sentences for train"):
        make_sentences({"train": 3}, seed=0, grammar=grammar)


def test_training_split_too_small_for_every_word(caplog):
    made = make_sentences({"train": 2, "dev": 3}, seed=0)
    assert len(made["dev"]) == 3
    assert "too few to hold every word of dev" in caplog.text


def test_bad_counts():
    with pytest.raises(ValueError, match="counts"):
        make_sentences({}, seed=0)
