"""Training n-gram models: interpolated modified Kneser-Ney smoothing, as kenlm's lmplz does it.

S. Chen and J. Goodman 1998, "An empirical study of smoothing techniques for language modeling", TR-10-98,
Harvard, sections 3 and 4.1.6; K. Heafield et al. 2013, "Scalable modified Kneser-Ney language model
estimation", ACL. An n-gram's count c is replaced by its adjusted count a: c itself for the longest n-grams and
those that begin with <s>, else the number of different words before it. With D_1, D_2, D_3+ an order's
discounts (their equation 26) and h' the context h less its first word,

    p(w | h) = (a(h w) - D(a(h w))) / sum_v a(h v) + backoff(h) p(w | h')
    backoff(h) = (sum_v D(a(h v)) + adjusted counts of h's pruned n-grams) / sum_v a(h v)

down to the uniform distribution over all words but <s>; <unk> is a word of adjusted count 0.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_lstm.errors import ConfigError
from asr_lstm.lm.counting import OrderCounts, count_ngrams
from asr_lstm.lm.ngram import BEGIN, SPECIAL_WORDS, NgramModel
from asr_lstm.lm.trie import ROOT, Ints, TrieBuilder

log = logging.getLogger(__name__)

# lmplz's own, for text too small or too artificial to estimate them from, as that of characters is.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
_SMALLEST = 1e-99  # in place of a probability or weight of 0, whose logarithm is none; log10 -99, as in SRILM

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]


def train_ngram(
    lines: Iterable[str],
    *,
    order: int,
    prune: Sequence[int] = (),
    vocabulary: int | Collection[str] | None = None,
) -> NgramModel:
    """Train a model on sentences.

    Args:
        lines: a sentence each, words parted by white space; lines without a word are passed over.
        order: length of the longest n-grams, from 1.
        prune: n-grams that occur this often or less are left out, by order from 1; the last number goes for all
            higher orders. (0, 0, 1) leaves out what is seen once, from 3-grams up.
        vocabulary: the words to keep, or how many of the most frequent; n-grams with another word are left
            out, as if pruned. Their probability goes to the shorter contexts and so to <unk>.

    Returns:
        The model; its words in the order in which they first appear.

    Raises:
        ConfigError: an order below 1, numbers to prune by that fall or are too many, or an empty vocabulary.
        DataError: no words, or a special word in the text.
    """
    thresholds = _thresholds(order, prune)
    if vocabulary is not None:
        size = vocabulary if isinstance(vocabulary, int) else len(vocabulary)
        if size < 1:
            raise ConfigError(f"vocabulary: {size} words are too few for a language model; keep at least one")
    words, tables = count_ngrams(lines, order)
    kept = _kept(words, tables, thresholds, vocabulary)
    estimates = _estimate(tables, kept)
    return _build(words, tables, kept, estimates)


def _thresholds(order: int, prune: Sequence[int]) -> list[int]:
    if order < 1:
        raise ConfigError(f"order: {order} is too low; n-grams have at least 1 word")
    prune = list(prune) or [0]
    if len(prune) > order:
        raise ConfigError(f"prune: {len(prune)} numbers for orders 1 to {order}; give at most {order}")
    if min(prune) < 0 or prune != sorted(prune):
        raise ConfigError(f"prune: {prune} must begin at 0 or more and never fall from order to order")
    return prune + [prune[-1]] * (order - len(prune))


def _kept(
    words: Sequence[str],
    tables: Sequence[OrderCounts],
    thresholds: Sequence[int],
    vocabulary: int | Collection[str] | None,
) -> list[Flags]:
    """Which n-grams of each order stay; those a longer one begins or ends with always do, if it does."""
    allowed = np.ones(len(words), bool)
    special = len(SPECIAL_WORDS)
    if isinstance(vocabulary, int):
        frequent = np.argsort(-tables[0].counts[special:], kind="stable")
        allowed[special + frequent[vocabulary:]] = False
    elif vocabulary is not None:
        wanted = frozenset(vocabulary)
        allowed[special:] = [word in wanted for word in words[special:]]
    inside, kept = np.ones(1, bool), []
    for table, threshold in zip(tables, thresholds, strict=True):
        inside = inside[table.parents] & allowed[table.words]
        kept.append(inside & (table.counts > threshold))
    kept[0][:special] = True
    return kept


@dataclass(frozen=True)
class _Estimates:
    """Probabilities `(n,)` of an order's n-grams, and the back-off weights `(m,)` of their contexts."""

    probs: Reals
    backoffs: Reals


def _estimate(tables: Sequence[OrderCounts], kept: Sequence[Flags]) -> list[_Estimates]:
    """The equations above, from 1-grams up."""
    shorter = np.array([1.0 / (kept[0].sum() - 1)])  # of each word but <s>
    begins = np.zeros(1, bool)
    estimates = []
    for i, table in enumerate(tables):
        begins = begins[table.parents] if i != 1 else table.parents == BEGIN
        adjusted = table.counts
        if i + 1 < len(tables):
            continuations = np.bincount(tables[i + 1].suffixes, minlength=len(adjusted))
            adjusted = np.where(begins, adjusted, continuations)
        contexts = len(tables[i - 1].words) if i else 1
        discounts = np.array([0.0, *_discounts(adjusted, order=i + 1)])[np.minimum(adjusted, 3)]
        sums = np.bincount(table.parents, adjusted, contexts)
        freed = np.bincount(table.parents, np.where(kept[i], discounts, adjusted), contexts)
        backoffs = np.divide(freed, sums, out=np.ones(contexts), where=sums > 0)
        parents = table.parents
        probs = (adjusted - discounts) / sums[parents] + backoffs[parents] * shorter[table.suffixes]
        if i == 0:
            probs[BEGIN] = 1.0  # never predicted; so lmplz has it, for those who score it all the same
        estimates.append(_Estimates(probs, backoffs))
        shorter = probs
    return estimates


def _discounts(adjusted: Ints, *, order: int) -> tuple[float, float, float]:
    """D_1, D_2 and D_3+ of an order from how many of its n-grams have an adjusted count of 1, 2, 3 and 4."""
    ones, twos, threes, fours = (
        int(number) for number in np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5]
    )
    if ones and twos and threes:
        share = ones / (ones + 2 * twos)
        found = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
        if all(0 <= discount <= most for discount, most in zip(found, (1, 2, 3), strict=True)):
            return found
    log.info(
        "the %d-grams are too few or too artificial to estimate discounts from: %s, %s and %s are taken",
        order,
        *FALLBACK_DISCOUNTS,
    )
    return FALLBACK_DISCOUNTS


def _build(
    words: Sequence[str],
    tables: Sequence[OrderCounts],
    kept: Sequence[Flags],
    estimates: Sequence[_Estimates],
) -> NgramModel:
    """Lay out what is kept as a trie."""
    numbers = (np.cumsum(kept[0]) - 1).astype(np.int32)  # of the words that stay
    builder = TrieBuilder([int(flags.sum()) for flags in kept])
    nodes = np.full(1, ROOT, np.int32)  # of the n-grams of the order below
    first = 1
    for i, (table, flags) in enumerate(zip(tables, kept, strict=True)):
        backoffs = _log10(estimates[i + 1].backoffs[flags]) if i + 1 < len(tables) else None
        contexts, last = nodes[table.parents[flags]], numbers[table.words[flags]]
        rows = builder.add(i + 1, contexts, last, _log10(estimates[i].probs[flags]), backoffs)
        nodes = np.zeros(len(flags), np.int32)
        nodes[np.flatnonzero(flags)[rows]] = np.arange(first, first + len(rows), dtype=np.int32)
        first += len(rows)
    return NgramModel(
        builder.finish(),
        [word for word, flag in zip(words, kept[0], strict=True) if flag],
        builder.counts,
    )


def _log10(values: Reals) -> NDArray[np.float32]:
    return np.minimum(np.log10(np.maximum(values, _SMALLEST)), 0.0).astype(np.float32)
