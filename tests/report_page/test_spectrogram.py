"""The picture of an utterance and the units over it stand at the same times."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr_lstm.bundle import Bundle, load_bundle
from asr_lstm.manifest import Utterance
from asr_lstm.report_page.hearing import Hearing, hear
from asr_lstm.report_page.spectrogram import spectrogram

RATE = 8000


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def heard(bundle: Bundle, samples: NDArray[np.float32]) -> Hearing:
    return hear(bundle, Utterance(Path("x"), "", len(samples) / RATE), load=lambda _: samples)


def units(svg: ElementTree.Element) -> list[tuple[str, float]]:
    """Each unit and where it stands."""
    found = [text for text in svg.findall("text") if "unit" in str(text.get("class"))]
    return [(str(text.find("title").tail), float(text.get("x", "nan"))) for text in found]  # type: ignore[union-attr]


def test_units_stand_where_their_sound_is(
    bundle: Bundle, synthetic_speech: Callable[..., NDArray[np.float32]]
) -> None:
    samples = synthetic_speech("abe d")
    hearing = heard(bundle, samples)
    assert hearing.text == "abe d"
    assert hearing.whole
    assert len(hearing.features) == len(samples) // 80 + 1
    assert hearing.features.shape[1] == 16
    svg = ElementTree.fromstring(spectrogram(hearing, bundle)).find("svg")
    assert svg is not None
    picture = svg.find("image")
    assert picture is not None
    seconds = float(picture.get("width", "nan")) / (len(hearing.features) * 0.01)
    placed = units(svg)
    assert [unit for unit, _ in placed] == ["a", "b", "e", "\u2423", "d"]
    for index, (_, x) in enumerate(placed):  # 0.16 s of silence, then a tone of 0.08 and a gap of 0.04 each
        assert 0.14 + 0.12 * index < x / seconds < 0.36 + 0.12 * index
    assert "abe\u2423d" in str(svg.get("aria-label"))


def test_features_are_those_that_the_model_gets(
    bundle: Bundle, synthetic_speech: Callable[..., NDArray[np.float32]]
) -> None:
    import torch

    samples = synthetic_speech("cab")
    hearing = heard(bundle, samples)
    frontend = bundle.model.front_end
    with torch.no_grad():
        wanted, _ = frontend(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    assert np.allclose(hearing.features[::2], wanted[0, :, :16].numpy(), atol=1e-5)
    assert np.allclose(
        hearing.features[1::2], wanted[0, : len(hearing.features) // 2, 16:].numpy(), atol=1e-5
    )


def test_long_utterances_go_on_in_rows_of_one_length(
    bundle: Bundle, synthetic_speech: Callable[..., NDArray[np.float32]]
) -> None:
    hearing = heard(bundle, synthetic_speech("abcde " * 15 + "e"))
    rows = ElementTree.fromstring(spectrogram(hearing, bundle)).findall("svg")
    widths = [float(row.get("width", "nan")) for row in rows]
    assert len(rows) == 2
    assert widths[0] == pytest.approx(widths[1], rel=0.02)
    assert max(widths) <= 990
    assert sum(len(units(row)) for row in rows) == len(hearing.spans)
    times = [str(text.text) for row in rows for text in row.findall("text") if text.get("class") == "axis"]
    assert times == [f"{second} s" for second in range(len(times))]


def test_units_that_are_unsure_are_marked(
    bundle: Bundle, synthetic_speech: Callable[..., NDArray[np.float32]]
) -> None:
    hearing = heard(bundle, synthetic_speech("ab"))
    spans = [replace(hearing.spans[0], posterior=0.3), replace(hearing.spans[1], posterior=0.7)]
    svg = ElementTree.fromstring(spectrogram(replace(hearing, spans=spans), bundle)).find("svg")
    assert svg is not None
    marked = [text.get("class") for text in svg.findall("text") if "unit" in str(text.get("class"))]
    assert marked == ["unit unsure", "unit"]
    assert [text.findtext("title") for text in svg.findall("text")][:2] == [
        "a, posterior 0.30",
        "b, posterior 0.70",
    ]
