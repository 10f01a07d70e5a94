"""Layers above the middle one hear what it believes in, as the paper's equation says, and wherever a model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.decoding.montecarlo import sample_log_probs
from asr_lstm.features import FeatureConfig
from asr_lstm.gradients import gradient_reach
from asr_lstm.init_from import initialise
from asr_lstm.lstm import VariationalLSTM
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.schedule import TrainingConfig
from asr_lstm.units import CharacterUnits

FEATURES = FeatureConfig(kind="frames", dims=4, stack=1, hop_ms=10)
ENCODER = EncoderConfig(layers=2, hidden=5, layer_dropout=0, state_dropout=0, self_conditioning=True)
LENGTHS = torch.tensor([9, 6])


def telling(model: Recogniser) -> Recogniser:
    """The model, no longer silent."""
    assert model.conditioning is not None
    with torch.no_grad():
        model.conditioning.weight.copy_(torch.randn_like(model.conditioning.weight))
    return model


def make(encoder: EncoderConfig = ENCODER, *, phones: int = 0) -> Recogniser:
    torch.manual_seed(3)
    return telling(Recogniser(FEATURES, encoder, units=6, phones=phones)).eval()


@pytest.mark.parametrize("phones", [0, 7])
def test_later_layers_hear_the_layer_and_what_it_believes_in(phones: int) -> None:
    model = make(phones=phones)
    inputs = torch.randn(2, 9, 4)
    logits, lengths = model(inputs, LENGTHS)
    head = model.phone_head if phones else model.head
    assert head is not None
    assert model.conditioning is not None
    second = VariationalLSTM(10, 5, layers=1, bidirectional=True, layer_norm=True)
    for name in ("layers", "norms"):
        getattr(second, name)[0].load_state_dict(getattr(model.encoder, name)[1].state_dict())
    for row, length in enumerate(LENGTHS.tolist()):
        frames, _ = model.front_end(inputs[row : row + 1, :length], LENGTHS[row : row + 1])
        x = model.encoder.forward_with_layer(frames, LENGTHS[row : row + 1], layer=0)[1]
        beliefs = (x @ head.weight.T + head.bias).exp()
        heard = x + (beliefs / beliefs.sum(-1, keepdim=True)) @ model.conditioning.weight.T
        expected = model.head(second(heard, LENGTHS[row : row + 1]))
        torch.testing.assert_close(logits[row : row + 1, :length], expected, atol=1e-5, rtol=1e-4)
    assert lengths.equal(LENGTHS)


def test_at_first_nothing_is_said() -> None:
    torch.manual_seed(3)
    plain = Recogniser(FEATURES, replace(ENCODER, self_conditioning=False), units=6, phones=7)
    torch.manual_seed(3)
    model = Recogniser(FEATURES, ENCODER, units=6, phones=7)
    inputs = torch.randn(2, 9, 4)
    assert model(inputs, LENGTHS)[0].equal(plain(inputs, LENGTHS)[0])
    assert set(model.state_dict()) - set(plain.state_dict()) == {"conditioning.weight"}


def test_what_is_written_teaches_what_is_believed() -> None:
    model = make(phones=7)
    model(torch.randn(2, 9, 4), LENGTHS)[0].square().sum().backward()
    for name in ("conditioning.weight", "phone_head.weight", "encoder.layers.0.weight_ih"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert bool(gradient.any()), name


def test_it_is_heard_in_shorter_layers_beside_others_in_the_batch() -> None:
    model = make(replace(ENCODER, layers=3, time_reduction=(2, 1)), phones=7)
    inputs = torch.randn(2, 9, 4)
    logits, lengths = model(inputs, LENGTHS)
    alone, _ = model(inputs[1:, :6], LENGTHS[1:])
    assert lengths.tolist() == [5, 3]
    torch.testing.assert_close(logits[1:, :3], alone)


def test_random_passes_and_gradients_hear_it_as_well() -> None:
    """A dropout that drops nothing: each draw is then the plain pass."""
    model = make(replace(ENCODER, layer_dropout=1e-9), phones=7)
    inputs = torch.randn(1, 9, 4)
    expected = model(inputs, LENGTHS[:1])[0].log_softmax(-1)
    [drawn] = sample_log_probs(model, inputs, LENGTHS[:1], samples=2, seed=1)
    torch.testing.assert_close(drawn, expected.expand(2, -1, -1))
    reach = gradient_reach(model, inputs, LENGTHS[:1])
    telling(model)
    assert not torch.allclose(gradient_reach(model, inputs, LENGTHS[:1])[0], reach[0])


def bundle(phones: Sequence[str]) -> Bundle:
    model = telling(Recogniser(FEATURES, ENCODER, units=4, phones=len(phones) + 1 if phones else 0))
    return Bundle(model, CharacterUnits("abc"), FEATURES, ENCODER, loader="some.load", phones=phones)


def test_a_bundle_keeps_it_and_training_begins_with_what_is_said_of_shared_phones(tmp_path: Path) -> None:
    save_bundle(tmp_path, old := bundle(["k", "æ", "t"]))
    said = old.model.get_parameter("conditioning.weight")
    assert load_bundle(tmp_path).model.get_parameter("conditioning.weight").equal(said)
    new = bundle(["t", "ʃ", "æ"])
    before = new.model.get_parameter("conditioning.weight").detach().clone()
    initialise(new.model, new.units, phones=new.phones, features=FEATURES, encoder=ENCODER, bundle=tmp_path)
    after = new.model.get_parameter("conditioning.weight")
    assert after.equal(torch.stack([said[:, 0], said[:, 3], before[:, 2], said[:, 2]], dim=1))


def test_what_units_are_said_to_be_is_not_taken_for_phones(tmp_path: Path) -> None:
    save_bundle(tmp_path, bundle([]))
    new = bundle(["k", "t"])
    before = new.model.get_parameter("conditioning.weight").detach().clone()
    initialise(new.model, new.units, phones=new.phones, features=FEATURES, encoder=ENCODER, bundle=tmp_path)
    assert new.model.get_parameter("conditioning.weight").equal(before)


def test_it_needs_a_layer_below_and_something_that_teaches_it() -> None:
    with pytest.raises(ValueError, match=r"^encoder\.self_conditioning: encoder\.layers must be at least 2"):
        EncoderConfig(layers=1, self_conditioning=True)
    corpus = CorpusConfig(prepare="nothing", load="some.load")
    with pytest.raises(ValueError, match=r"needs phones.share or training.intermediate"):
        Recipe(name="one", corpus=corpus, features=FEATURES, encoder=ENCODER)
    training = TrainingConfig(intermediate=0.3)
    assert Recipe(name="one", corpus=corpus, features=FEATURES, encoder=ENCODER, training=training)
