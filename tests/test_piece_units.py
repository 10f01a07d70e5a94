"""Pieces of words as output units."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.decoding.align import align_units
from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.greedy import greedy_decode
from asr_lstm.decoding.spelling import spell_units
from asr_lstm.decoding.words import word_spans
from asr_lstm.errors import ConfigError, DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.init_from import initialise
from asr_lstm.manifest import Utterance
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.piece_units import PieceUnits
from asr_lstm.preflight.training import check_training_data, frames_needed
from asr_lstm.unit_kinds import UnitsConfig, load_units, make_units
from asr_lstm.units import Normaliser, Units

HAND_MADE = PieceUnits(
    ["\u2581", "a", "b", "\u2581ab", "ba", "\u2581a"], scores=[-3.0, -4.0, -4.0, -2.0, -2.5, -2.25]
)


@pytest.fixture(scope="module")
def transcripts(librispeech_excerpt: Path) -> list[str]:
    """A hundred real sentences."""
    files = sorted(librispeech_excerpt.rglob("*.trans.txt"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [line.partition(" ")[2] for line in lines]


@pytest.fixture(scope="module")
def learned(transcripts: list[str]) -> PieceUnits:
    pytest.importorskip("sentencepiece")
    return PieceUnits.from_texts(transcripts, size=300)


def utterances(*texts: str) -> list[Utterance]:
    return [
        Utterance(id=str(row), path=Path("x.wav"), text=text, duration=1.0) for row, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab", ["\u2581ab"]),
        ("aba", ["\u2581a", "ba"]),  # -4.75 against -6
        ("b", ["\u2581", "b"]),
        ("a  Ab", ["\u2581a", "\u2581ab"]),
        ("a\u2581b", ["\u2581a", "\u2581", "b"]),  # the mark itself is a space
        ("", []),
    ],
)
def test_the_likeliest_pieces(text: str, pieces: list[str]) -> None:
    units = PieceUnits(HAND_MADE.symbols, Normaliser(punctuation="keep"), HAND_MADE.scores)
    ids = units.encode(text)
    assert [units.symbols[unit - 1] for unit in ids] == pieces
    assert units.decode(ids) == units.normaliser(text).replace("\u2581", " ")
    assert isinstance(units, Units)


def test_an_unknown_character_is_named_with_its_place() -> None:
    assert HAND_MADE.unknown("axb \u00e9a x") == ["x", "\u00e9"]
    assert HAND_MADE.known("axb \u00e9a x") == "ab a"
    with pytest.raises(DataError, match=r"^a\.jsonl:3: the units lack 'x'; correct"):
        HAND_MADE.encode("abx", where="a.jsonl:3")


def test_words_are_spelt_as_sentencepiece_spells_them(transcripts: list[str], learned: PieceUnits) -> None:
    """A model of sentencepiece with these very pieces, whose encoder is another program."""
    processor = processor_of(learned)
    assert len(learned.symbols) == 300
    for text in map(learned.normaliser, transcripts):
        found = [learned.symbols[unit - 1] for unit in learned.encode(text)]
        assert found == processor.encode(text, out_type=str)
        assert learned.decode(learned.encode(text)) == text


def processor_of(units: PieceUnits) -> Any:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as messages

    model = messages.ModelProto()
    model.trainer_spec.model_type = messages.TrainerSpec.UNIGRAM
    model.normalizer_spec.name = "identity"
    model.pieces.add(piece="<unk>", score=0.0, type=messages.ModelProto.SentencePiece.UNKNOWN)
    for symbol, score in zip(units.symbols, units.scores, strict=True):
        model.pieces.add(piece=symbol, score=score)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.SerializeToString())
    return processor


def test_speech_that_repeats_the_texts_gives_the_same_pieces(
    transcripts: list[str], learned: PieceUnits
) -> None:
    """As synthetic speech does, which a training may begin from: rows of the output layer are matched by piece."""
    spoken = transcripts * 2 + transcripts[:30]
    random.Random(1).shuffle(spoken)
    again = make_units(UnitsConfig(kind="pieces", size=300), utterances(*spoken), learned.normaliser)
    assert again == learned


def test_speech_of_most_of_the_texts_gives_most_of_the_pieces(
    transcripts: list[str], learned: PieceUnits
) -> None:
    some = PieceUnits.from_texts(transcripts[:90], size=300)
    assert len({*some.symbols} & {*learned.symbols}) > 200


def test_a_small_corpus_has_fewer_pieces() -> None:
    pytest.importorskip("sentencepiece")
    units = PieceUnits.from_texts(["ab ba", "Yes, no!"], size=300)
    assert set(units.symbols) >= {"\u2581", *"abeonsy"}
    assert len(units.symbols) < 20
    assert units.decode(units.encode("nay, bob")) == "nay bob"


@pytest.mark.parametrize(
    "text", ["a\u2585b", "<unk> a", "a\u2581b c", "x" * 5000, "\u0928\u092e\u0938\u094d\u0924\u0947"]
)
def test_whatever_is_learned_from_can_be_written(text: str) -> None:
    """Sentencepiece passes over some texts, or has a meaning of its own for them."""
    pytest.importorskip("sentencepiece")
    normaliser = Normaliser(punctuation="keep")
    units = PieceUnits.from_texts([text, "others"], normaliser, size=50)
    assert units.decode(units.encode(text)) == text.replace("\u2581", " ")


def test_what_cannot_be_pieces() -> None:
    with pytest.raises(DataError, match="no text"):
        PieceUnits.from_texts(["", " ?! "], size=300)
    with pytest.raises(ConfigError, match=r"units\.size: 3 pieces cannot write the 4 .* say at least 5"):
        PieceUnits.from_texts(["abcd"], size=3)
    with pytest.raises(ValueError, match=r"units\.size must be above 0, not 0"):
        UnitsConfig(kind="pieces", size=0)


@pytest.mark.usefixtures("no_sentencepiece")
def test_only_training_asks_for_sentencepiece() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'asr_lstm\[sentencepiece\]'"):
        PieceUnits.from_texts(["abcd"], size=300)
    assert HAND_MADE.encode("ab") == [4]  # a trained model needs none


def test_what_is_saved_is_loaded(tmp_path: Path, learned: PieceUnits) -> None:
    learned.save(tmp_path / "units.txt")
    assert load_units("pieces", tmp_path / "units.txt", learned.normaliser) == learned


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\u2581\t-1\n", "units.txt:1: not a file of units"),
        ("<blank>\n\u2581\t-1\na\n", "unit 2: 'a' is not a piece, a tab and a number"),
        ("<blank>\na b\t-1\n", "unit 1: 'a b' is not a single piece"),
        ("<blank>\na\u2581\t-1\n", "is not a single piece"),
        ("<blank>\na\t-1\na\t-2\n", "'a' stands there twice"),
        ("<blank>\n", "the units are empty"),
    ],
)
def test_a_file_that_holds_no_pieces(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "units.txt").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        PieceUnits.load(tmp_path / "units.txt")


def peaks(units: PieceUnits, text: str) -> tuple[list[int], torch.Tensor]:
    """The ids of a text and the logits of a network that is sure of it: each unit for a frame, then a blank."""
    ids = units.encode(text)
    logits = torch.full((2 * len(ids), len(units)), -10.0)
    logits[range(0, 2 * len(ids), 2), ids] = 10.0
    logits[1::2, 0] = 10.0
    return ids, logits


def test_texts_and_times_of_words(transcripts: list[str], learned: PieceUnits) -> None:
    text = learned.normaliser(transcripts[0])
    ids, logits = peaks(learned, text)
    found = greedy_decode(logits[None], torch.tensor([len(logits)]))[0]
    assert learned.decode(found) == text
    assert frames_needed(ids) <= len(logits)
    words = word_spans(align_units(logits, ids), learned, spell_units(learned))
    assert [word.word for word in words] == text.split()
    firsts = [place for place, unit in enumerate(ids) if learned.symbols[unit - 1].startswith("\u2581")]
    spaces = [learned.symbols[ids[place] - 1] == "\u2581" for place in firsts]
    expected = [2 * (place + space) for place, space in zip(firsts, spaces, strict=True)]
    assert [word.start for word in words] == expected


def test_a_search_among_the_words_of_a_lexicon(transcripts: list[str], learned: PieceUnits) -> None:
    words = learned.normaliser(transcripts[0]).split()
    _, logits = peaks(learned, " ".join(words))
    config = BeamConfig(beam=8)
    for lexicon in (None, words):
        decoder = BeamDecoder(learned, config=config, lexicon=lexicon, hotwords={words[0]: 1.0})
        assert decoder.decode_each([logits])[0][0].text == " ".join(words)
    without = [word for word in words if word != words[0]]
    decoder = BeamDecoder(learned, config=config, lexicon=without)
    assert words[0] not in [word for one in decoder.decode_each([logits])[0] for word in one.text.split()]


def test_a_model_of_pieces_is_kept_and_begun_from(tmp_path: Path, learned: PieceUnits) -> None:
    features, encoder = FeatureConfig(mels=8), EncoderConfig(layers=1, hidden=4)
    model = Recogniser(features, encoder, units=len(learned))
    save_bundle(tmp_path / "model", Bundle(model, learned, features, encoder, loader="x.load"))
    assert load_bundle(tmp_path / "model").units == learned

    kept = [number for number in range(len(learned.symbols)) if number % 3]
    fewer = PieceUnits(
        [learned.symbols[number] for number in kept], scores=[learned.scores[number] for number in kept]
    )
    other = Recogniser(features, encoder, units=len(fewer))
    initialise(other, fewer, features=features, encoder=encoder, bundle=tmp_path / "model")
    rows = [0, *(number + 1 for number in kept)]
    torch.testing.assert_close(other.head.weight, model.head.weight[rows], rtol=0, atol=0)


def test_preflight_tells_pieces_apart_that_read_alike() -> None:
    rows = [Utterance(Path(f"{row}.wav"), "the other", 10.0) for row in range(3)]
    units = PieceUnits(["\u2581", *"aehort", "\u2581the", "the"], scores=[-4.0] * 7 + [-1.0, -1.0])
    found = check_training_data(
        rows,
        units=units,
        features=FeatureConfig(mels=8),
        encoder=EncoderConfig(layers=1, hidden=4),
        speed=0.0,
        batch_seconds=20.0,
    )
    assert (found.figures.unit_counts["\u2581the"], found.figures.unit_counts["the"]) == (3, 3)
    assert any("ask for fewer pieces" in warning for warning in found.warnings)
