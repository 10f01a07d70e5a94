from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.beam import BeamDecoder
from asr_lstm.decoding.calibration import Calibration
from asr_lstm.decoding.decoders import (
    Decoder,
    GreedyDecoder,
    Parts,
    Rescored,
    beam_weights,
    make_decoder,
    make_decoders,
)
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.decoding.tuned import Tuned
from asr_lstm.errors import DataError
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.load import save_ngram
from asr_lstm.units import CharacterUnits

UNITS = CharacterUnits([" ", "a", "b", "c"])


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    save_ngram(tmp_path / "lm.arpa", train_ngram(["ab ca", "ab", "ca ab ca", "b"], order=2))
    return tmp_path / "lm.arpa"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("AB\nca\nxyz\nq\n")
    return tmp_path / "words.txt"


def logits_of(text: str, *, sure: float = 6.0, seed: int = 0) -> Tensor:
    """Frames that say a text, a blank after each unit."""
    noise = torch.Generator().manual_seed(seed)
    path = [unit for letter in UNITS.encode(text) for unit in (letter, 0)]
    rows = torch.randn(len(path), len(UNITS), generator=noise)
    rows[torch.arange(len(path)), torch.tensor(path)] += sure
    return rows


def beam(**options: Any) -> DecodingConfig:
    return DecodingConfig(decoder="beam", **options)


def test_greedy_is_the_best_path() -> None:
    rows = [logits_of("ab ca", sure=1.0, seed=seed)[: 3 + seed] for seed in range(5)]
    found = GreedyDecoder(UNITS).decode_each(rows)
    for row, (one,) in zip(rows, found, strict=True):
        (ids,) = greedy_decode(row[None], torch.tensor([len(row)]))
        assert (one.text, list(one.units)) == (UNITS.decode(ids), ids)
        assert one.total == one.acoustic == pytest.approx(float(row.log_softmax(-1).max(-1).values.sum()))
        assert [word.word for word in one.words] == one.text.split()


def test_all_decoders_that_are_asked_for(lm: Path, words: Path) -> None:
    decoders = make_decoders(beam(lm=lm, lexicon=words, hotwords={"b": 1.0}, mc=3, nbest=4), UNITS)
    assert [decoder.name for decoder in decoders] == [
        "greedy",
        "beam",
        "beam+lexicon",
        "beam+lexicon+ngram",
        "beam+lexicon+ngram+hotwords",
        "beam+lexicon+ngram+hotwords+mc",
    ]
    row = logits_of("ab b", sure=5.0)
    texts = {decoder.name: decoder.find([row])[0][0].text for decoder in decoders}
    assert texts["greedy"] == texts["beam"] == "ab b"
    assert set(texts["beam+lexicon+ngram"].split()) <= {"ab", "ca"}
    assert [decoder.draws for decoder in decoders] == [0, 0, 0, 0, 0, 3]
    assert [decoder.score_names for decoder in decoders[:2]] == [["path"], ["path", "nbest"]]
    assert decoders[-1].score_names == ["path", "nbest", "draws"]
    assert [len(decoder.find([row])[0]) for decoder in decoders[:2]] == [1, 4]


def test_calibrated_confidences_do_not_depend_on_how_many_texts_are_shown() -> None:
    tuned = Tuned(calibrations={"beam": Calibration((0.5, 2.0), -0.3)})
    row = logits_of("ab b", sure=1.0)
    sure = []
    for nbest in (1, 10):
        decoder = make_decoder("beam", Parts(beam(nbest=nbest), UNITS), tuned)
        found = decoder.find([row])[0]
        sure.append(decoder.confidences(decoder.word_scores(found)))
        assert decoder.nbest == nbest
    assert sure[0] == sure[1]


def test_words_that_cannot_be_spelled_are_left_out_and_named(
    words: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="asr_lstm"):
        assert Parts(beam(lexicon=words), UNITS).words == ["ab", "ca"]
    (record,) = caplog.records
    assert record.getMessage() == (f"{words}: 2 words that the units cannot spell are left out: 'xyz', 'q'")


@pytest.mark.parametrize(
    "kind", ["lexicon", "lm", "missing lm", "broken lm", "empty lexicon", "characters lm"]
)
def test_files_that_do_not_fit_are_one_line_that_names_them(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.arpa"
    name = kind.split()[-1]
    if kind == "lexicon":
        path.write_text("xyz\nq\n")
    elif kind == "lm":
        save_ngram(path, train_ngram(["XYZ QQ", "QQ"], order=2))
    elif kind == "characters lm":
        save_ngram(path, train_ngram(["a b <space> c a"], order=2))
    elif kind == "broken lm":
        save_ngram(path, train_ngram(["ab ca"], order=2))
        path.write_text("\n".join(path.read_text().splitlines()[:-3]))
    elif kind == "empty lexicon":
        path.write_text("\n")
    with pytest.raises(DataError) as caught:
        make_decoders(beam(**{name: path}), UNITS)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_the_users_weights_come_before_tuned_ones_and_these_before_the_defaults(lm: Path) -> None:
    tuned = Tuned({"beam+ngram": {"alpha": 0.9, "beta": 1.5}})
    assert beam_weights("beam+ngram", beam(lm=lm), Tuned()) == {"alpha": 0.5, "beta": 0.0, "lstm_weight": 0.5}
    assert beam_weights("beam+ngram", beam(lm=lm), tuned) == {"alpha": 0.9, "beta": 1.5, "lstm_weight": 0.5}
    said = beam(lm=lm, beta=-1.0)
    assert beam_weights("beam+ngram", said, tuned) == {"alpha": 0.9, "beta": -1.0, "lstm_weight": 0.5}
    assert beam_weights("beam", said, tuned)["beta"] == 0.0  # meant for the one with the model
    assert beam_weights("beam", beam(beta=-1.0), tuned)["beta"] == -1.0


def test_weights_and_width_reach_the_search(lm: Path) -> None:
    parts = Parts(beam(lm=lm, alpha=0.3, beam=7, nbest=2), UNITS)
    decoder = make_decoder("beam+ngram", parts, Tuned())
    assert isinstance(decoder.search, BeamDecoder)
    config = decoder.search.config
    assert (config.alpha, config.beta, config.beam, config.nbest) == (0.3, 0.0, 7, 2)
    assert isinstance(decoder.vote, BeamDecoder)
    assert decoder.vote.config.nbest == 1


def test_nothing_is_said_where_there_is_no_frame() -> None:
    for decoder in make_decoders(beam(), UNITS):
        row = logits_of("ab")
        found = decoder.find([torch.zeros(0, len(UNITS)), row, torch.zeros(0, len(UNITS))])
        assert [nbest[0].text for nbest in found] == ["", "ab", ""]
        assert decoder.word_scores(found[0]).shape == (0, len(decoder.score_names))
        assert decoder.confidences(decoder.word_scores(found[0])) == []
        assert decoder.find([]) == []


def test_draws_vote_for_words() -> None:
    greedy = GreedyDecoder(UNITS)
    decoder = Decoder("greedy+mc", greedy, greedy, draws=4)
    ab, ac = logits_of("ab ca"), logits_of("ac ca")
    votes = decoder.votes([torch.stack([ab, ab, ac, ab]), torch.stack([ac] * 4)])
    assert [[one[0].text for one in utterance] for utterance in votes] == [
        ["ab ca", "ab ca", "ac ca", "ab ca"],
        ["ac ca"] * 4,
    ]
    (nbest,) = decoder.find([ab])
    scores = decoder.word_scores(nbest, votes[0])
    assert scores[:, 1].tolist() == pytest.approx([0.75, 1.0])
    assert scores[:, 0].tolist() == [word.confidence for word in nbest[0].words]
    assert decoder.confidences(scores) == pytest.approx([0.75, 1.0])


def test_confidences_are_calibrated_where_the_decoder_is() -> None:
    tuned = Tuned(calibrations={"beam": Calibration((2.0, 0.5), -1.0)})
    _, decoder = make_decoders(beam(), UNITS, tuned)
    scores = np.array([[0.9, 0.5], [0.2, 1.0]])
    odds = 2 * np.log(0.9 / 0.1) - 1
    assert decoder.confidences(scores)[0] == pytest.approx(1 / (1 + np.exp(-odds)))
    plain = make_decoders(beam(), UNITS)[1]
    assert plain.confidences(scores) == [0.9, 0.2]


def test_a_second_pass_has_the_last_word() -> None:
    decoder = make_decoders(beam(nbest=5), UNITS)[1]
    row = logits_of("ab", sure=2.0)
    first = decoder.find([row])[0]
    wanted = first[3].text
    search = Rescored(decoder.search, lambda texts: [100.0 * (text == wanted) for text in texts], 0.5)
    second = search.decode_each([row])[0]
    assert second[0].text == wanted
    assert second[0].total == pytest.approx(first[3].total + 50)
    assert sorted(one.text for one in second) == sorted(one.text for one in first)
