"""A trie of words, or of anything spelled in small numbers, as one array that compiled code can walk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROOT = 0
# Columns: the children of node n are nodes first[n] .. first[n + 1] - 1, rising by label, the letter that leads
# into a node; the value is that of the spelling that ends at a node, -1 where none does.
FIRST, LABEL, VALUE = 0, 1, 2

Trie = NDArray[np.int32]  # (nodes + 1, 3), the nodes in the order of their depth; the last row closes `first`


def empty_trie() -> Trie:
    """A root alone: nothing is spelled."""
    return np.array([[1, -1, -1], [1, -1, -1]], np.int32)


def build_trie(spellings: Sequence[Sequence[int]], values: Sequence[int]) -> Trie:
    """The trie of some spellings.

    Args:
        spellings: each a sequence of letters, numbers from 0; one that occurs twice keeps its last value.
        values: of each spelling, from 0.

    Raises:
        ValueError: no spellings, an empty one, or not one value for each.
    """
    if len(spellings) != len(values) or not spellings or not all(spellings):
        raise ValueError(f"spellings: {len(spellings)} of them for {len(values)} values; none may be empty")
    order = sorted(range(len(spellings)), key=lambda index: tuple(spellings[index]))
    lengths = np.array([len(spellings[index]) for index in order])
    starts = np.cumsum(lengths) - lengths
    letters = np.concatenate([np.asarray(spellings[index], np.int32) for index in order])

    node = np.zeros(len(order), np.int64)  # where each spelling has got to
    last = node.copy()  # and where it ends
    labels, parents = [np.array([-1], np.int32)], [np.array([-1])]
    nodes = 1
    for depth in range(int(lengths.max())):
        alive = np.flatnonzero(lengths > depth)
        letter, parent = letters[starts[alive] + depth], node[alive]
        begins = np.ones(len(alive), np.bool_)
        begins[1:] = (parent[1:] != parent[:-1]) | (letter[1:] != letter[:-1])
        labels.append(letter[begins])
        parents.append(parent[begins])
        last[alive] = node[alive] = nodes + np.cumsum(begins) - 1
        nodes += int(begins.sum())

    trie = np.full((nodes + 1, 3), -1, np.int32)
    # Nodes stand in the order of their parents, so that a node's children follow those of the nodes before it.
    children = np.bincount(np.concatenate(parents)[1:], minlength=nodes)
    trie[0, FIRST], trie[1:, FIRST] = 1, 1 + np.cumsum(children)
    trie[:-1, LABEL] = np.concatenate(labels)
    for place, index in zip(last.tolist(), order, strict=True):
        trie[place, VALUE] = values[index]
    return trie


def find_child(trie: Trie, node: int, letter: int) -> int:
    """The child of a node by a letter; -1 where there is none."""
    begin, end = trie[node, FIRST], trie[node + 1, FIRST]
    index = int(begin + np.searchsorted(trie[begin:end, LABEL], letter))
    return index if index < end and trie[index, LABEL] == letter else -1


def greatest_below(trie: Trie, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(nodes,), the greatest of `values` (nodes,) at or below each node."""
    greatest = values.copy()
    parents = np.repeat(np.arange(len(values)), np.diff(trie[:, FIRST]))  # of nodes 1, 2, ...
    levels = [slice(0, 1)]
    while levels[-1].start < levels[-1].stop:
        levels.append(slice(int(trie[levels[-1].start, FIRST]), int(trie[levels[-1].stop, FIRST])))
    for level in levels[:0:-1]:
        np.maximum.at(greatest, parents[level.start - 1 : level.stop - 1], greatest[level])
    return greatest
