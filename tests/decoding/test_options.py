from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from asr_lstm.decoding.options import DecodingConfig, decoding_config, parts_of, without
from asr_lstm.errors import ConfigError

LM, LSTM, WORDS = Path("lm.arpa"), Path("lstm"), Path("words.txt")


def test_greedy_stands_alone() -> None:
    assert DecodingConfig().decoders == ["greedy"]
    assert DecodingConfig(mc=8).decoders == ["greedy", "greedy+mc"]


def test_each_part_is_added_to_those_before_it() -> None:
    assert DecodingConfig(decoder="beam").decoders == ["greedy", "beam"]
    assert DecodingConfig(decoder="beam", lm=LM).decoders == ["greedy", "beam", "beam+ngram"]
    everything = DecodingConfig(decoder="beam", lm=LM, lstm=LSTM, lexicon=WORDS, hotwords={"a": 1.0}, mc=2)
    assert everything.decoders == [
        "greedy",
        "beam",
        "beam+lexicon",
        "beam+lexicon+ngram",
        "beam+lexicon+ngram+lstm",
        "beam+lexicon+ngram+lstm+hotwords",
        "beam+lexicon+ngram+lstm+hotwords+mc",
    ]
    assert everything.files == [LM, LSTM, WORDS]
    assert DecodingConfig(decoder="beam", rescore=LSTM).decoders[-1] == "beam+rescore"


def test_names() -> None:
    assert parts_of("beam+ngram+mc") == {"beam", "ngram", "mc"}
    assert without("beam+ngram+hotwords+mc", "hotwords", "mc") == "beam+ngram"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"beam": 0}, "beam must be at least 1, not 0"),
        ({"nbest": 0}, "nbest must be at least 1, not 0"),
        ({"mc": -1}, "mc must be at least 0, not -1"),
        ({"alpha": math.nan}, "alpha must be a finite number, not nan"),
        ({"lstm_weight": math.inf}, "lstm_weight must be a finite number, not inf"),
        (
            {"decoder": "beam", "hotwords": {"a": math.nan}},
            "hotwords: the weight of 'a' must be a finite number",
        ),
        ({"lm": LM}, "lm: greedy decoding has no use for it; say decoder `beam` or leave it out"),
        ({"hotwords": {"a": 1.0}}, "hotwords: greedy decoding has no use for it"),
        ({"decoder": "beam", "lstm": LSTM, "rescore": LSTM}, "lstm, rescore: .* give one of the two"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        decoding_config(**options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=complaint):
        DecodingConfig(**options)
