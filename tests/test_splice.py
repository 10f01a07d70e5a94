from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from torch.utils.data import DataLoader

from asr_lstm.alignment import TimedSpan
from asr_lstm.batching import Draw, Example, collate
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.data import UtteranceDataset
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance
from asr_lstm.set_up import set_up
from asr_lstm.splice import Splicer, cut_between, find_words
from asr_lstm.units import CharacterUnits, Normaliser

RATE = 8000
WORD, PAUSE = 0.2, 0.05  # seconds
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
PITCHES = {word: 400.0 + 200 * number for number, word in enumerate(WORDS)}
SENTENCES = {
    "anna": ["one two three", "four one two three one", "five"],
    "bert": ["six seven", "seven six seven six"],
}
UTTERANCES = [
    Utterance(Path(f"{speaker}{number}.wav"), text, 1.0, speaker=speaker)
    for speaker, texts in SENTENCES.items()
    for number, text in enumerate(texts)
]


def sung(utterance: Utterance) -> np.ndarray:
    """Synthetic: each word is a tone of its own pitch, and a pause."""
    time = np.arange(round(WORD * RATE)) / RATE
    pause = np.zeros(round(PAUSE * RATE))
    words = [
        np.append(0.3 * np.sin(2 * np.pi * PITCHES[word] * time), pause) for word in utterance.text.split()
    ]
    return np.concatenate(words).astype(np.float32)


def spans(utterance: Utterance) -> list[TimedSpan]:
    """Where CTC would see the words: within them, and not to their ends."""
    begins = [number * (WORD + PAUSE) for number in range(len(utterance.text.split()))]
    return [
        TimedSpan(word, begin + 0.03, begin + 0.15, 1.0)
        for word, begin in zip(utterance.text.split(), begins, strict=True)
    ]


def heard(audio: np.ndarray) -> list[str]:
    """The words of some audio, by the strongest pitch of each stretch of sound."""
    edges = np.flatnonzero(np.diff(np.append([False], loudness(audio) > 0.05), append=False)) + 1
    words = []
    for start, end in edges.reshape(-1, 2):
        spectrum = np.abs(np.fft.rfft(audio[start:end], n=RATE))
        words.append(min(PITCHES, key=lambda word: abs(PITCHES[word] - float(spectrum.argmax()))))
    return words


def loudness(audio: np.ndarray) -> np.ndarray:
    """Mean modulus over 6 ms."""
    mean: np.ndarray = np.convolve(np.abs(audio), np.ones(48) / 48, "same")
    return mean


def splicer(share: float = 1.0, utterances: list[Utterance] = UTTERANCES) -> Splicer:
    return Splicer(utterances, [spans(row) for row in utterances], load=sung, rate=RATE, share=share)


def test_the_text_is_what_is_heard_and_of_one_speaker() -> None:
    made = set()
    for index, row in enumerate(UTTERANCES):
        for seed in range(50):
            spliced = splicer()(index, seed)
            if len(row.text.split()) == 1:
                assert spliced is None
                continue
            assert spliced
            audio, text = spliced
            assert audio.dtype == np.float32
            assert len(text.split()) == len(row.text.split())
            assert set(text.split()) <= set(" ".join(SENTENCES[row.speaker or ""]).split())
            assert heard(audio) == text.split()
            made.add(text)
    assert len(made) > 60
    assert len(made & {row.text for row in UTTERANCES}) < 10


def test_pieces_are_runs_of_words_that_were_said_together() -> None:
    together = sum("three one" in (splicer()(1, seed) or (0, ""))[1] for seed in range(200))
    apart = sum("three four" in (splicer()(1, seed) or (0, ""))[1] for seed in range(200))
    assert together > 2 * apart > 0


def test_nothing_clicks_where_pieces_meet() -> None:
    loud = [replace(row, text=row.text) for row in UTTERANCES]

    def hum(utterance: Utterance) -> np.ndarray:
        return np.full(len(sung(utterance)), 0.5, np.float32)

    made = Splicer(loud, [spans(row) for row in loud], load=hum, rate=RATE, share=1.0)(1, 3)
    assert made
    assert np.abs(np.diff(made[0])).max() < 0.02


def test_the_share_of_seeds_is_spliced_and_each_seed_always_alike() -> None:
    some = splicer(0.3)
    made = [some(1, seed) for seed in range(400)]
    assert 0.2 < sum(one is not None for one in made) / 400 < 0.4
    again = [splicer(0.3)(1, seed) for seed in range(400)]
    for one, other in zip(made, again, strict=True):
        assert (one is None) == (other is None)
        if one and other:
            assert one[1] == other[1]
            np.testing.assert_array_equal(one[0], other[0])


def test_an_utterance_of_no_known_speaker_or_words_stays_as_it_was() -> None:
    nobody = [replace(row, speaker=None) for row in UTTERANCES]
    assert not any(splicer(utterances=nobody)(1, seed) for seed in range(20))
    unknown = Splicer(UTTERANCES, [()] * len(UTTERANCES), load=sung, rate=RATE, share=1.0)
    assert not any(unknown(1, seed) for seed in range(20))


def test_new_places_take_the_place_of_the_old() -> None:
    right = [spans(row) for row in UTTERANCES]
    wrong = [[replace(span, start=span.start + WORD, end=span.end + WORD) for span in row] for row in right]
    made = Splicer(UTTERANCES, wrong, load=sung, rate=RATE, share=1.0)
    assert any(heard(made(1, seed)[0]) != made(1, seed)[1].split() for seed in range(20))  # type: ignore[index]
    made.renew(right)
    for seed in range(20):
        audio, text = made(1, seed)  # type: ignore[misc]
        np.testing.assert_array_equal(audio, splicer()(1, seed)[0])  # type: ignore[index]
        assert heard(audio) == text.split()
    made.renew([()] * len(UTTERANCES))
    assert np.isnan(made.places).all()
    assert made(1, 0) is None


def test_a_process_that_loads_ahead_learns_of_new_places() -> None:
    units = CharacterUnits.from_texts([row.text for row in UTTERANCES], Normaliser())
    unknown = Splicer(UTTERANCES, [()] * len(UTTERANCES), load=sung, rate=RATE, share=1.0)
    own = UtteranceDataset(UTTERANCES, units, sung, splice=unknown)
    draws = [[Draw(1, seed)] for seed in range(10)]
    loader = DataLoader(own, batch_sampler=draws, collate_fn=collate, num_workers=1, persistent_workers=True)

    def texts() -> list[str]:
        return [units.decode(batch.targets.tolist()) for batch in loader]

    assert set(texts()) == {UTTERANCES[1].text}
    unknown.renew([spans(row) for row in UTTERANCES])
    assert texts() == [splicer()(1, seed)[1] for seed in range(10)]  # type: ignore[index]


def test_a_recording_that_is_gone_is_not_blamed_on_what_it_would_be_put_into() -> None:
    def load(utterance: Utterance) -> np.ndarray:
        if utterance is UTTERANCES[1]:
            raise OSError("gone")
        return sung(utterance)

    words = [spans(row) for row in UTTERANCES]
    spliced = Splicer(UTTERANCES, words, load=load, rate=RATE, share=1.0)
    found = [spliced(0, seed) for seed in range(50)]
    assert None in found
    assert any(found)
    assert {word for made in found if made for word in made[1].split()} <= {"one", "two", "three", "five"}


def test_cuts_are_the_quietest_places_around_words() -> None:
    draw = np.random.default_rng(1)
    audio = draw.standard_normal(8000).astype(np.float32) * 0.1
    for quiet in (slice(300, 700), slice(2500, 2900), slice(5000, 5400)):
        audio[quiet] *= 0.01
    cuts = cut_between(audio, np.array([(0.1, 0.25), (0.4, 0.5), (0.5, 0.6)]), rate=8000)

    def quietest(first: int, last: int) -> int:
        """By the energy of the 20 ms around each place, as far as there is audio."""
        energies = [np.square(audio[max(0, place - 80) : place + 80]).mean() for place in range(first, last)]
        return first + int(np.argmin(energies))

    assert cuts[0] == quietest(0, 961)  # up to 0.2 s before the first word
    assert cuts[1] == quietest(1840, 3361)
    assert 3840 <= cuts[2] <= 4160
    assert cuts[3] == quietest(4640, 6401)
    assert len(cuts) == 4


def test_a_recording_that_is_cut_close_has_no_silence_to_lose() -> None:
    audio = np.random.default_rng(2).standard_normal(800).astype(np.float32)
    cuts = cut_between(audio, np.array([(0.0, 0.05), (0.05, 0.1)]), rate=8000)
    assert cuts == sorted(cuts)
    assert 0 <= cuts[0] <= 160
    assert 640 <= cuts[-1] <= 800


def test_a_spliced_utterance_begins_and_ends_as_the_recording_did() -> None:
    """Each recording has its own hum before and after what is said: it stays, and no other comes in between."""
    hums = {row.path: 0.02 + 0.01 * number for number, row in enumerate(UTTERANCES)}
    before, behind = round(0.3 * RATE), round(0.4 * RATE)

    def load(utterance: Utterance) -> np.ndarray:
        said = sung(utterance)[: -round(PAUSE * RATE)]
        hum = np.float32(hums[utterance.path])
        return np.concatenate([np.full(before, hum), said, np.full(behind, hum)])

    words = [
        [replace(span, start=span.start + 0.3, end=span.end + 0.3) for span in spans(row)]
        for row in UTTERANCES
    ]
    made = Splicer(UTTERANCES, words, load=load, rate=RATE, share=1.0)
    for seed in range(40):
        spliced = made(1, seed)
        assert spliced
        audio, text = spliced
        own = np.float32(hums[UTTERANCES[1].path])
        # What is sung begins where its word was placed, or a fifth of a second of hum before.
        assert (audio[: before - round(0.2 * RATE)] == own).all()
        assert (audio[-(behind - round(0.2 * RATE)) :] == own).all()
        assert heard(audio * (np.abs(audio) > 0.1)) == text.split()


def test_each_word_of_a_speaker_is_as_likely_as_any_other() -> None:
    """Wherever it stands, in sentences short and long."""
    sentences = ["a b c", "d", "e f g h i j k l m n"]
    rows = [
        Utterance(Path(f"{number}.wav"), text, 1.0, speaker="anna") for number, text in enumerate(sentences)
    ]
    places = [
        [
            TimedSpan(word, 0.25 * number, 0.25 * number + 0.2, 1.0)
            for number, word in enumerate(row.text.split())
        ]
        for row in rows
    ]
    made = Splicer(rows, places, load=lambda _: np.zeros(30 * RATE, np.float32), rate=RATE, share=1.0)
    counts = Counter(word for seed in range(3000) for word in made(2, seed)[1].split())  # type: ignore[index]
    mean = 3000 * 10 / 14
    assert len(counts) == 14
    # Three standard deviations of a count are 140 and some, for words come in runs.
    assert all(abs(count - mean) < 0.09 * mean for count in counts.values())


def test_a_data_set_learns_what_the_spliced_words_say() -> None:
    units = CharacterUnits.from_texts([row.text for row in UTTERANCES], Normaliser())
    own = UtteranceDataset(UTTERANCES, units, sung, splice=splicer(0.5))
    for seed in range(20):
        example = own[Draw(1, seed)]
        assert isinstance(example, Example)
        assert units.decode(example.units).split() == heard(example.inputs.numpy())


def test_words_are_where_the_model_hears_them(
    tmp_path: Path, tiny_bundle: Path, synthetic_speech: Callable, synthetic_texts: list[str]
) -> None:
    path = tmp_path / "said.wav"
    text = next(text for text in synthetic_texts if " " in text)
    soundfile.write(path, synthetic_speech(text, seed=1), RATE)
    row = Utterance(path, text, soundfile.info(path).duration)
    unlikely = replace(row, id="unlikely", text=text.translate(str.maketrans("abcde", "eabcd")))
    assert find_words([unlikely], model=tiny_bundle) == [()]
    loud = replace(row, id="loud", text=text.upper())
    found, same, lacking, more = find_words(
        [row, loud, replace(row, id="lacking", text="ÿ"), replace(row, id="more", text=f"{text} -")],
        model=tiny_bundle,
    )
    assert [word.text for word in found] == text.split()
    assert [word.text for word in same] == text.upper().split()
    assert [word.start for word in same] == [word.start for word in found]
    assert lacking == more == ()
    with pytest.raises(ConfigError, match="nowhere"):
        find_words([row], model="nowhere")


def test_without_a_model_to_begin_from_nothing_is_spliced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe("none", CorpusConfig("x"))
    recipe = replace(recipe, augment=replace(recipe.augment, splice=0.5))
    rows = UTTERANCES[:2]
    with caplog.at_level(logging.WARNING):
        _, data, _ = set_up(
            recipe, train=rows, dev=rows, load=sung, logs=tmp_path, console=Console(quiet=True)
        )
    assert "augment.splice" in caplog.text
    assert data.train_set.splice is None
