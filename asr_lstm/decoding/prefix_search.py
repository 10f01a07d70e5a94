"""The compiled core of the prefix beam search: one utterance, frame by frame. Imports numba: import it late.

Each entry of the beam is a prefix, a sequence of units, with the exact probabilities that the frames so far wrote
it and ended in a blank, or in its last unit (Graves 2012, "Supervised Sequence Labelling with Recurrent Neural
Networks", section 7.5; Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using
Bi-Directional Recurrent DNNs", arXiv 1408.2873, algorithm 1), in natural logarithms of double precision.

All functions stand in this one file: numba compiles a kept function anew when its own file has changed, not when
that of a function which it calls has. Entries and candidates are records, `ENTRY` and `CANDIDATE`; few arguments
that are arrays keep compiling short.
"""
# The arguments are typed by numba, at each call; annotations would say less than the names do.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, check-untyped-defs=False

from __future__ import annotations

import numpy as np

from asr_lstm.decoding.compiled import compiled
from asr_lstm.decoding.hotwords import AHEAD, ENDS, FALL
from asr_lstm.decoding.search_arrays import ARCS, NO_MODEL, NOWHERE, OFF, OUTSIDE, STAY
from asr_lstm.decoding.trie import FIRST, LABEL, ROOT, VALUE

_EMPTY_KEY = np.uint64(0x9E3779B97F4A7C15)  # this and the two below: splitmix64 (Steele, Lea & Flood 2014)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@compiled
def log_add(a, b):
    """Logarithm of the sum of two probabilities."""
    if a < b:
        a, b = b, a
    if b == NOWHERE:
        return a
    return a + np.log1p(np.exp(b - a))


@compiled
def log_softmax(logits, out):
    """Normalise the (units,) logits of a frame into `out`."""
    best = logits[0]
    for value in logits:
        best = max(best, value)
    total = 0.0
    for value in logits:
        total += np.exp(np.float64(value) - np.float64(best))
    shift = np.float64(best) + np.log(total)
    for unit in range(len(logits)):
        out[unit] = np.float64(logits[unit]) - shift


@compiled
def kth_largest(values, size, k):
    """The k-th largest (from 1) of the first `size` values, which are shuffled by it (Hoare 1961)."""
    low, high, place = 0, size - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return values[place]


@compiled
def find_letter(trie, node, letter):
    """The child of a trie's node by a letter; -1 where there is none."""
    low, end = np.int64(trie[node, FIRST]), np.int64(trie[node + 1, FIRST])
    high = end
    while low < high:
        middle = (low + high) // 2
        if trie[middle, LABEL] < letter:
            low = middle + 1
        else:
            high = middle
    return low if low < end and trie[low, LABEL] == letter else np.int64(-1)


@compiled
def look_up(arcs, state, word):
    """log p(word | state), and the next state."""
    score = 0.0
    arc = word
    while state != ROOT:
        arc, end = arcs.begin[state], arcs.begin[state + 1]
        high = end
        while arc < high:
            middle = (arc + high) // 2
            if arcs.words[middle] < word:
                arc = middle + 1
            else:
                high = middle
        if arc < end and arcs.words[arc] == word:
            break
        score += arcs.backoffs[state]
        state = arcs.suffixes[state]
        arc = word
    return (score + arcs.probs[arc]) * arcs.scale, arcs.following[arc]


@compiled
def extend_key(key, unit):
    """The key of a prefix with one unit more; of a million prefixes two share one in 3 of 10^8 utterances."""
    mixed = (key ^ np.uint64(unit + 1)) + _EMPTY_KEY
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


@compiled
def step_hot(links, scores, state, letter):
    """The hotwords' next state, and what it adds to the score."""
    state = np.int64(state)
    given = scores[state, AHEAD]
    following = find_letter(links, state, letter)
    while following < 0 and state != ROOT:
        state = np.int64(links[state, FALL])
        following = find_letter(links, state, letter)
    following = max(following, np.int64(ROOT))
    return following, scores[following, AHEAD] - given + scores[following, ENDS]


@compiled
def end_of_word(place, trie, modes, weights):
    """What a word that ends at this place of the trie adds to the bonus; -inf where none may end there."""
    number = OFF if place == OFF else trie[place, VALUE]
    if number < 0 and modes.closed:
        return NOWHERE
    if modes.words != NO_MODEL and (number < 0 or number == modes.unknown):
        return weights.word_bonus + weights.unknown_score
    return weights.word_bonus


@compiled
def word_number(place, trie, modes):
    """The word model's number of the word that ends at this place of the trie."""
    number = OFF if place == OFF else trie[place, VALUE]
    return number if number >= 0 else modes.unknown


@compiled
def look_ahead(place, is_open, ahead, modes, weights):
    """What an unfinished word will add to the score, guessed: it counts in the ranking of prefixes alone.

    Without it prefixes would pay for a word all at once at its end, and those that run words together would live
    too long.
    """
    if not is_open:
        return 0.0
    if place == OFF:
        unknown = weights.unknown_score if modes.words != NO_MODEL else 0.0
        return weights.word_bonus + weights.word_weight * ahead[len(ahead) - 1] + unknown
    return weights.word_bonus + weights.word_weight * ahead[place]


@compiled
def write(place, is_open, hot, unit, spelled, trie, links, scores, modes, weights):
    """What a prefix becomes when a unit follows.

    Returns:
        place, open, hot, whether a word was finished, and what is added to the bonus: -inf where the unit may not
        follow.
    """
    place, hot = np.int64(place), np.int64(hot)  # or functions would be compiled for narrower numbers too
    listening = len(scores) > 1
    ended, bonus = False, 0.0
    if spelled[unit, 0]:
        if is_open:
            ended = True
            bonus += end_of_word(place, trie, modes, weights)
            if listening and modes.space >= 0:
                hot, more = step_hot(links, scores, hot, modes.space)
                bonus += more
        place, is_open = np.int64(ROOT), False
    for index in range(1, spelled.shape[1]):
        letter = spelled[unit, index]
        if letter < 0:
            break
        is_open = True
        if place != OFF:
            place = find_letter(trie, place, np.int64(letter))
        if listening:
            hot, more = step_hot(links, scores, hot, np.int64(letter))
            bonus += more
    if place == OFF and modes.closed:
        bonus = NOWHERE
    return place, is_open, hot, ended, bonus


@compiled
def choose_units(frame, weights, room):
    """Write the units worth trying in this frame to `room.tried`, rising, and return how many."""
    best, count = NOWHERE, np.int64(0)
    for value in frame:
        best = max(best, value)
    floor = best - weights.unit_margin
    for unit in range(1, len(frame)):
        if frame[unit] >= floor and frame[unit] > NOWHERE:
            room.scores[count] = frame[unit]
            count += 1
    spare = count  # how many of those at the floor itself may pass
    if count > weights.units_tried:
        floor = kth_largest(room.scores, count, weights.units_tried)
        spare = weights.units_tried
        for unit in range(1, len(frame)):
            spare -= frame[unit] > floor
    count = np.int64(0)
    for unit in range(1, len(frame)):
        room.rank[unit] = -1
        at_floor = frame[unit] == floor and spare > 0 and floor > NOWHERE
        if frame[unit] > floor or at_floor:
            spare -= at_floor
            room.rank[unit] = count
            room.tried[count] = unit
            count += 1
    return count


@compiled
def find_parents(old, count, table, parents):
    """For each entry, the entry that is its prefix without the last unit; -1 where it is not in the beam."""
    mask = np.uint64(len(table) - 1)
    for place in range(len(table)):
        table[place] = -1
    for i in range(count):
        free = old[i].key & mask
        while table[free] >= 0:
            free = (free + np.uint64(1)) & mask
        table[free] = i
    for i in range(count):
        parents[i] = -1
        seek = old[i].parent & mask
        while table[seek] >= 0:
            if old[table[seek]].key == old[i].parent and old[i].last >= 0:
                parents[i] = table[seek]
                break
            seek = (seek + np.uint64(1)) & mask


@compiled
def stay(old, count, frame, stamp, room):
    """Probabilities of each prefix when no unit is added to it, by whatever way it is reached in this frame."""
    find_parents(old, count, room.table, room.parents)
    for i in range(count):
        entry = old[i]
        last = entry.last
        entry.next_blank = entry.both + frame[0]
        entry.next_unit = NOWHERE
        if last >= 0:
            entry.next_unit = entry.unit + frame[last]
        j = room.parents[i]
        if j >= 0:
            # A unit that follows itself is a new one after a blank alone.
            before = old[j].blank if old[j].last == last else old[j].both
            entry.next_unit = log_add(entry.next_unit, before + frame[last])
            if room.rank[last] >= 0:
                room.taken[j, room.rank[last]] = stamp
        entry.next_both = log_add(entry.next_blank, entry.next_unit)


@compiled
def unit_score(state, slot, unit, units, unit_words, rows, modes):
    """log p(unit | prefix) by the unit model."""
    if modes.units == ARCS:
        return look_up(units, state, unit_words[unit])[0]
    if modes.units == OUTSIDE:
        return np.float64(rows[slot, unit])
    return 0.0


@compiled
def rest_of_score(entry, weights):
    """All of a prefix's score but the acoustics and what is expected of its unfinished word."""
    return weights.word_weight * entry.language + weights.unit_weight * entry.unit_language + entry.bonus


@compiled
def find_candidates(old, count, frame, tables, weights, rows, stamp, room):
    """Write the candidates of a frame to `room.candidates`, first those that stay, and return how many.

    Those that are bound to be pruned are left out: below the margin, or below as many as the beam holds.
    """
    tried = choose_units(frame, weights, room)
    stay(old, count, frame, stamp, room)
    candidates, taken = room.candidates, room.taken
    modes, spelled, trie, links = tables.modes, tables.spelled, tables.trie, tables.hotwords.links
    scores, units, unit_words = tables.hotwords.scores, tables.units, tables.unit_words
    ahead = tables.ahead
    best, least = NOWHERE, np.inf
    for i in range(count):
        expected = look_ahead(old[i].place, old[i].open, ahead, modes, weights)
        score = old[i].next_both + rest_of_score(old[i], weights) + expected
        candidates[i].score = score
        candidates[i].origin = i
        candidates[i].choice = STAY
        best, least = max(best, score), min(least, score)
    floor = best - weights.score_margin
    if count == weights.beam:
        floor = max(floor, least)
    floor -= weights.most_added

    size = count
    for i in range(count):
        entry = old[i]
        rest = rest_of_score(entry, weights)
        for number in range(tried):
            unit = room.tried[number]
            score = (entry.blank if unit == entry.last else entry.both) + frame[unit] + rest
            if score < floor or score == NOWHERE or taken[i, number] == stamp:
                continue
            place, is_open, _, ended, bonus = write(
                entry.place, entry.open, entry.hot, unit, spelled, trie, links, scores, modes, weights
            )
            if bonus == NOWHERE:
                continue
            score += bonus + look_ahead(place, is_open, ahead, modes, weights)
            if ended:
                score += weights.word_weight * entry.word_language
            if modes.units != NO_MODEL:
                by_unit = unit_score(entry.unit_state, entry.slot, unit, units, unit_words, rows, modes)
                score += weights.unit_weight * by_unit
            candidates[size].score = score
            candidates[size].origin = i
            candidates[size].choice = unit
            size += 1
    return size


@compiled
def extend(new, entry, unit, frame, tables, weights, rows, trace):
    """`new`, so far a copy of the old `entry`, gets one more unit."""
    modes, trie, hotwords = tables.modes, tables.trie, tables.hotwords
    place, is_open, hot, ended, bonus = write(
        entry.place,
        entry.open,
        entry.hot,
        unit,
        tables.spelled,
        trie,
        hotwords.links,
        hotwords.scores,
        modes,
        weights,
    )
    new.blank = NOWHERE
    new.unit = new.both = (entry.blank if unit == entry.last else entry.both) + frame[unit]
    new.place, new.open, new.hot = place, is_open, hot
    new.bonus += bonus
    if ended:
        new.language += entry.word_language
        new.state = entry.word_state
    new.word_language = 0.0
    if modes.words == ARCS and is_open:
        new.word_language, new.word_state = look_up(tables.words, new.state, word_number(place, trie, modes))
    new.unit_language += unit_score(
        entry.unit_state, entry.slot, unit, tables.units, tables.unit_words, rows, modes
    )
    if modes.units == ARCS:
        new.unit_state = look_up(tables.units, entry.unit_state, tables.unit_words[unit])[1]
    new.key, new.parent = extend_key(entry.key, unit), entry.key
    node = trace[0, 1]
    trace[node, 0], trace[node, 1], trace[0, 1] = entry.node, unit, node + 1
    new.node, new.last = node, unit
    new.slot, new.source = -1, entry.slot


@compiled
def advance(old, new, count, frame, stamp, tables, weights, rows, room, trace):
    """Fill the new beam from the old one and the log-probabilities of a frame.

    Of equal scores the candidate found first is kept, so that the result does not depend on chance.

    Args:
        old: the beam before the frame.
        new: room for the beam after it.
        count: entries of the old beam.
        frame: (units,) log-probabilities.
        stamp: number of the frame, from 1.
        tables: what the utterances share.
        weights: of the scores.
        rows: (slots, units) log-probabilities of a unit model outside, else empty.
        room: for the work.
        trace: of the utterance.

    Returns:
        Entries of the new beam.
    """
    size = find_candidates(old, count, frame, tables, weights, rows, stamp, room)
    candidates, best = room.candidates, NOWHERE
    for index in range(size):
        best = max(best, candidates[index].score)
    floor, above = best - weights.score_margin, np.int64(0)
    for index in range(size):
        if candidates[index].score >= floor:
            room.scores[above] = candidates[index].score
            above += 1
    spare = above  # how many of those at the floor itself may pass
    if above > weights.beam:
        floor = kth_largest(room.scores, above, weights.beam)
        spare = weights.beam
        for index in range(size):
            spare -= candidates[index].score > floor
    kept = 0
    for index in range(size):
        candidate = candidates[index]
        at_floor = candidate.score == floor and spare > 0 and floor > NOWHERE
        if candidate.score > floor or at_floor:
            spare -= at_floor
            new[kept] = old[candidate.origin]
            if candidate.choice == STAY:
                new[kept].blank, new[kept].unit = new[kept].next_blank, new[kept].next_unit
                new[kept].both = new[kept].next_both
            else:
                entry = old[candidate.origin]
                extend(new[kept], entry, candidate.choice, frame, tables, weights, rows, trace)
            kept += 1
    return kept


@compiled
def search(logits, first, second, tables, weights, rows, room, trace):
    """Search one utterance whose language models, if any, are arrays; the last beam is in `first`.

    Args:
        logits: (frames, units).
        first: a beam with the empty prefix alone.
        second: room for another.
        tables: what the utterances share.
        weights: of the scores.
        rows: empty.
        room: for the work.
        trace: of the utterance.

    Returns:
        Entries of the last beam.
    """
    frame = np.empty(logits.shape[1])
    count = np.int64(1)
    old, new = first, second
    for t in range(len(logits)):
        log_softmax(logits[t], frame)
        count = advance(old, new, count, frame, t + 1, tables, weights, rows, room, trace)
        old, new = new, old
    if len(logits) % 2:
        for i in range(count):
            first[i] = second[i]
    return count


@compiled
def finish(beam, count, tables, weights, complete):
    """End the last word of each entry, and the sentence where the models are arrays.

    Args:
        beam: the last one; its scores become those of the whole text.
        count: its entries.
        tables: what the utterances share.
        weights: of the scores.
        complete: (beam,) set to whether the entry may end here; one that may not keeps its unfinished word.
    """
    links, scores, modes = tables.hotwords.links, tables.hotwords.scores, tables.modes
    for i in range(count):
        entry = beam[i]
        complete[i] = True
        if entry.open:
            bonus = end_of_word(entry.place, tables.trie, modes, weights)
            complete[i] = bonus > NOWHERE
            if complete[i]:
                entry.language += entry.word_language
                entry.state = entry.word_state
                entry.bonus += bonus
                if modes.space >= 0:
                    hot, more = step_hot(links, scores, np.int64(entry.hot), modes.space)
                    entry.hot = hot
                    entry.bonus += more
        entry.bonus -= scores[entry.hot, AHEAD]
        if modes.words == ARCS:
            entry.language += look_up(tables.words, entry.state, tables.words.end)[0]
        if modes.units == ARCS:
            entry.unit_language += look_up(tables.units, entry.unit_state, tables.units.end)[0]
