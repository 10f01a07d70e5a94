"""The arrays that the prefix beam search works on, and their making. Nothing is compiled here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr_lstm.decoding.hotwords import Hotwords
from asr_lstm.decoding.trie import Trie

NOWHERE = -np.inf
OFF = -1  # where the letters of an unfinished word have left the trie
NO_MODEL, ARCS, OUTSIDE = 0, 1, 2  # where a language model's scores come from: arrays here, or Python
STAY = -1  # instead of a unit: the candidate is the prefix itself

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Records = NDArray[Any]

# A prefix in the beam.
ENTRY = np.dtype(
    [
        ("key", np.uint64),  # a hash of its units, so that equal prefixes meet however they came about
        ("parent", np.uint64),  # the key of the prefix without its last unit
        ("blank", np.float64),  # log-probability of the frames so far writing it and ending in a blank
        ("unit", np.float64),  # the same, ending in its last unit
        ("both", np.float64),  # the sum of the two
        ("next_blank", np.float64),  # all three after the frame that is being read, if no unit is added
        ("next_unit", np.float64),
        ("next_both", np.float64),
        ("language", np.float64),  # log-probability of its finished words
        ("unit_language", np.float64),  # log-probability of its units by the unit model
        ("bonus", np.float64),  # all else that is added to the score
        ("word_language", np.float64),  # log-probability of its unfinished word if that ended here
        ("state", np.int64),  # of the word model after the finished words
        ("word_state", np.int64),  # of the word model after the unfinished word
        ("unit_state", np.int64),  # of a unit model of arrays
        ("node", np.int32),  # where its units stand in the trace
        ("last", np.int32),  # its last unit; -1 of the empty prefix
        ("place", np.int32),  # of its unfinished word in the trie; OFF where it is none of the trie's
        ("hot", np.int32),  # state of the hotwords
        ("slot", np.int32),  # row of the unit model outside; -1 where the prefix is new and has none yet
        ("source", np.int32),  # of a new prefix, the slot of the one that it extends
        ("open", np.bool_),  # whether there is an unfinished word
    ],
    align=True,
)
CANDIDATE = np.dtype(
    [
        ("score", np.float64),
        ("origin", np.int32),  # the entry that it comes from
        ("choice", np.int32),  # the unit added to it, or STAY
    ],
    align=True,
)


class WordArcs(NamedTuple):
    """An n-gram model in arrays, those of `asr_lstm.lm.trie.Trie`: from each state an arc for every word seen there.

    p(word | state) is that of the state's arc for the word, or where there is none the state's back-off weight
    times p(word | suffix), and so on down to state 0, the empty context, which has an arc for every word (Mohri,
    Pereira & Riley 2008, "Speech recognition with weighted finite-state transducers", section 3.1).

    Attributes:
        begin: (states + 1,) int32, the arcs of state s are `begin[s]` .. `begin[s + 1] - 1`.
        words: (arcs,) int32, rising within a state; in state 0 arc number = word number.
        probs: (arcs,) float32, logarithms of p.
        following: (arcs,) int32, the next state.
        backoffs: (states,) float32, logarithms of the back-off weights.
        suffixes: (states,) int32, the shorter state.
        scale: what makes these logarithms natural: log(10) of those to base 10.
        end: the number of the word `</s>`.
    """

    begin: Int32
    words: Int32
    probs: Float32
    following: Int32
    backoffs: Float32
    suffixes: Int32
    scale: float
    end: int


class Weights(NamedTuple):
    """The numbers of `BeamConfig`.

    Attributes:
        most_added: the most that a unit can add to a score beside its own log-probability; inf where unknown.
    """

    beam: int
    units_tried: int
    unit_margin: float
    score_margin: float
    word_weight: float
    unit_weight: float
    word_bonus: float
    unknown_score: float
    most_added: float


class Modes(NamedTuple):
    """What kind of search it is.

    Attributes:
        closed: whether only the trie's words may be written.
        words: where the word model's scores come from.
        units: where the unit model's scores come from.
        unknown: the word model's number of the words that it does not know.
        space: the letter that hotwords read between words; -1 for none.
    """

    closed: bool
    words: int
    units: int
    unknown: int
    space: int


class Tables(NamedTuple):
    """What does not change from utterance to utterance.

    Attributes:
        modes: what kind of search it is.
        spelled: what each unit writes, see `Spelling.array`.
        trie: of the words, to their numbers in the word model, or of a lexicon alone.
        ahead: (nodes + 1,) float32, of each node the greatest log p of a word below it, whatever came before; the
            last is of unknown words.
        hotwords: phrases that add to the score.
        words: the word model where it is one of arrays.
        units: the unit model where it is one of arrays.
        unit_words: (units,) int64 number of each unit in it.
    """

    modes: Modes
    spelled: Int32
    trie: Trie
    ahead: Float32
    hotwords: Hotwords
    words: WordArcs
    units: WordArcs
    unit_words: Int64


class Room(NamedTuple):
    """Room for the work on a frame.

    Attributes:
        candidates: of `CANDIDATE`, (beam * (tried + 1),).
        scores: as many numbers.
        tried: (units,) the units tried in the frame, rising.
        rank: (units,) where a unit stands among them; -1 where it does not.
        taken: (beam, tried) in which frame the extension was last found in the beam itself.
        table: open hash table from a key to its entry.
        parents: (beam,) the entry that is a prefix without its last unit; -1 where it is not in the beam.
    """

    candidates: Records
    scores: NDArray[np.float64]
    tried: Int32
    rank: Int32
    taken: Int32
    table: Int32
    parents: Int32


def no_arcs() -> WordArcs:
    """Stands where there is no model of arrays."""
    ints, floats = np.zeros(1, np.int32), np.zeros(1, np.float32)
    return WordArcs(ints, ints, floats, ints, floats, ints, scale=1.0, end=0)


def new_beam(size: int, *, hot: int, state: int, unit_state: int) -> Records:
    """A beam whose entry 0 is the prefix without units, which is certain before the first frame."""
    beam = np.zeros(size, ENTRY)
    beam[0]["unit"] = NOWHERE
    beam[0]["last"] = -1
    beam[0]["hot"], beam[0]["state"], beam[0]["unit_state"] = hot, state, unit_state
    return beam


def new_room(weights: Weights, units: int) -> Room:
    """Room for frames of so many units."""
    tried = min(weights.units_tried, units - 1)
    table = 4
    while table < 2 * weights.beam:  # at most half full, so that few places are tried
        table *= 2
    most = weights.beam * (tried + 1)
    return Room(
        candidates=np.zeros(most, CANDIDATE),
        scores=np.zeros(max(most, units)),
        tried=np.zeros(units, np.int32),
        rank=np.zeros(units, np.int32),
        taken=np.zeros((weights.beam, tried), np.int32),
        table=np.zeros(table, np.int32),
        parents=np.zeros(weights.beam, np.int32),
    )


def new_trace(weights: Weights, frames: int) -> Int32:
    """Room for the units of all prefixes of so many frames, as a tree: (nodes, 2), node before it and unit.

    Node 0 is the empty prefix; where its unit would stand is how many nodes there are.
    """
    trace = np.zeros((1 + weights.beam * frames, 2), np.int32)
    trace[0] = -1, 1
    return trace


def trace_back(trace: Int32, node: int) -> list[int]:
    """The units of a prefix."""
    units = []
    while node:
        node, unit = trace[node].tolist()
        units.append(unit)
    return units[::-1]
