from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from asr_lstm.decoding.beam import BeamConfig, BeamDecoder
from asr_lstm.decoding.rescore import rescore
from asr_lstm.errors import DataError
from asr_lstm.lm.neural.bundle import NeuralLM
from asr_lstm.lm.neural.fusion import NeuralUnits
from asr_lstm.lm.neural.scores import NeuralScorer
from asr_lstm.lm.neural.text_units import WordTextUnits
from asr_lstm.units import CharacterUnits

RandomLM = Callable[..., NeuralLM]

UNITS = CharacterUnits([" ", "a", "b"])
# A beam that holds every prefix of five frames, and nothing else pruned.
EVERYTHING = BeamConfig(
    beam=400,
    units_tried=9,
    unit_margin=math.inf,
    score_margin=math.inf,
    nbest=1000,
    threads=1,
    unit_alpha=0.6,
)


def random_logits(seed: int, frames: int) -> Tensor:
    return 2 * torch.randn(frames, 4, generator=torch.Generator().manual_seed(seed))


def by_brute_force(logits: Tensor) -> dict[tuple[int, ...], float]:
    """log p_ctc of each labelling, summed over all paths that write it."""
    probs, found = logits.double().softmax(-1), {}
    for path in itertools.product(range(4), repeat=len(logits)):
        labelling = tuple(unit for unit, _ in itertools.groupby(path) if unit)
        p = math.prod(float(probs[frame, unit]) for frame, unit in enumerate(path))
        found[labelling] = found.get(labelling, 0.0) + p
    return {labelling: math.log(p) for labelling, p in found.items()}


def sentence(lm: NeuralLM, labelling: Sequence[int]) -> float:
    """log p of the units of a text and of its end, the whole read at once."""
    ids = [0, *lm.units.encode("".join(UNITS.symbols[unit - 1] for unit in labelling)).tolist(), 0]
    log_probs = lm.model(torch.tensor([ids[:-1]]))[0][0].double().log_softmax(-1)
    return float(log_probs[range(len(ids) - 1), ids[1:]].sum())


@pytest.mark.parametrize("symbols", [" ab", "b,a c"], ids=["same units", "more units, in another order"])
def test_the_search_with_it_is_brute_force(random_lm: RandomLM, symbols: str) -> None:
    lm = random_lm(symbols)
    logits = [random_logits(seed, frames=1 + seed % 5) for seed in range(5)]
    decoder = BeamDecoder(UNITS, config=EVERYTHING, unit_model=NeuralUnits(lm, UNITS))
    for rows, found in zip(logits, decoder.decode_each(logits), strict=True):
        best: dict[str, float] = {}
        with torch.inference_mode():
            for labelling, acoustic in by_brute_force(rows).items():
                text = UNITS.decode(labelling)
                total = acoustic + 0.6 * sentence(lm, labelling)
                best[text] = max(best.get(text, -math.inf), total)
        assert {one.text: one.total for one in found} == pytest.approx(best, abs=1e-3)


def test_an_utterance_is_searched_alone_as_in_a_batch(random_lm: RandomLM) -> None:
    logits = [random_logits(seed, frames=3 + seed) for seed in range(6)]
    decoder = BeamDecoder(
        UNITS, config=BeamConfig(beam=4, nbest=3), unit_model=NeuralUnits(random_lm(" ab"), UNITS)
    )
    together = decoder.decode_each(logits)
    for rows, found in zip(logits, together, strict=True):
        (alone,) = decoder.decode_each([rows])
        assert [one.text for one in alone] == [one.text for one in found]
        assert [one.total for one in alone] == pytest.approx([one.total for one in found], abs=1e-3)


def test_states_are_kept_by_prefix(random_lm: RandomLM) -> None:
    lm = random_lm()
    model = NeuralUnits(lm, UNITS)
    with torch.inference_mode():
        first, state = model.start()
        assert first.shape == (1, 4)
        assert all(part.shape == (1, 2, 1, 12) for part in state)
        doubled = tuple(torch.cat([part, part]) for part in state)
        after, state = model.step(torch.tensor([2, 3]), doubled)
        swapped = tuple(part[[1, 0, 1]] for part in state)
        again, _ = model.step(torch.tensor([1, 1, 2]), swapped)
        for row, text in zip([after[0], after[1], *again], ["a", "b", "b ", "a ", "ba"], strict=True):
            ids = torch.tensor([[0, *lm.units.encode(text).tolist()]])
            expected = lm.model(ids)[0][0, -1].log_softmax(-1)
            columns = [0, *(lm.units.encode(symbol)[0] for symbol in UNITS.symbols)]
            torch.testing.assert_close(row, expected[columns], rtol=1e-4, atol=1e-4)


def test_characters_that_a_second_pass_lacks_are_told_before_it(random_lm: RandomLM) -> None:
    NeuralScorer(random_lm("abc"), CharacterUnits(["a", "b"]))
    with pytest.raises(DataError, match="has no 'c'"):
        NeuralScorer(random_lm("ab"), CharacterUnits(["a", "b", "c"]))


def test_rescoring_all_texts_is_as_good_as_searching_with_it(random_lm: RandomLM) -> None:
    lm = random_lm("ab")
    units = CharacterUnits(["a", "b"])  # no space: each text has one spelling
    logits = [random_logits(seed, frames=4)[:, :3] for seed in range(4)]
    first = BeamDecoder(units, config=EVERYTHING).decode_each(logits)
    rescored = rescore(first, NeuralScorer(lm), weight=0.6)
    once = BeamDecoder(units, config=EVERYTHING, unit_model=NeuralUnits(lm, units)).decode_each(logits)
    for two, one in zip(rescored, once, strict=True):
        assert [found.text for found in two] == [found.text for found in one]
        assert [found.total for found in two] == pytest.approx([found.total for found in one], abs=1e-3)


@pytest.mark.parametrize("symbols", ["ab", WordTextUnits(["<unk>", "a"])], ids=["no space", "words"])
def test_a_model_of_other_units_is_refused(random_lm: RandomLM, symbols: str | WordTextUnits) -> None:
    with pytest.raises(DataError, match=r"of the recogniser's 3 units .*--recogniser") as raised:
        NeuralUnits(random_lm(symbols), UNITS)
    assert "\n" not in str(raised.value)
