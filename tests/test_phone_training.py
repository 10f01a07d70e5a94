"""Phones in training: what their loss is and does, and how they get from one training to the next."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import small_training as small
import torch
import yaml
from rich.console import Console

from asr_lstm.batching import Batch, DataConfig, Draw, collate
from asr_lstm.bootstrap import BootstrapConfig, bootstrap_recipe
from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.config import CorpusConfig, Recipe
from asr_lstm.experiment import Experiment
from asr_lstm.features import FeatureConfig
from asr_lstm.init_from import initialise
from asr_lstm.loss import training_losses
from asr_lstm.manifest import write_manifest
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.phones import Phones, PhonesConfig
from asr_lstm.schedule import TrainingConfig
from asr_lstm.units import CharacterUnits, Normaliser
from asr_lstm.updates import GradientSum, halves

# Of the small training each text is one word; how it sounds is its letters, the other way round. One is not known.
UNKNOWN = small.TRAIN[3].text
WORDS = {
    row.text: tuple(small.LETTERS.index(letter) + 1 for letter in row.text)
    for row in small.TRAIN
    if row.text != UNKNOWN
}
PHONES = Phones(["x", "y", "z"], WORDS, Normaliser())
FEATURES = FeatureConfig(kind="frames", dims=4, stack=1, hop_ms=10)


def batch_of(*indices: int) -> Batch:
    _, data = small.make(phones=PHONES)
    return collate([data.train_set[Draw(index, index)] for index in indices])


def ctc(logits: torch.Tensor, length: int, ids: Sequence[int]) -> float:
    """Of one utterance, by torch alone."""
    log_probabilities = logits[:length].log_softmax(-1)
    lengths = torch.tensor(length), torch.tensor(len(ids))
    loss = torch.nn.CTCLoss(reduction="sum")(log_probabilities, torch.tensor(ids), *lengths)
    return float(loss.detach())


@pytest.mark.parametrize(("layers", "middle"), [(2, 0), (4, 1)])
def test_the_loss_is_that_of_both_layers(layers: int, middle: int) -> None:
    encoder = EncoderConfig(layers=layers, hidden=5, layer_dropout=0.0, state_dropout=0.0)
    model = Recogniser(FEATURES, encoder, units=4, phones=len(PHONES))
    assert model.phone_head is not None
    batch = batch_of(0, 3, 5)
    losses = training_losses(model, batch, phones=0.3)
    frames, _ = model.front_end(batch.inputs, batch.lengths)
    for row, index in enumerate((0, 3, 5)):
        length = int(batch.lengths[row])
        last, lower, _ = model.encoder.forward_with_layer(
            frames[row : row + 1, :length], torch.tensor([length]), layer=middle
        )
        text = small.TRAIN[index].text
        expected = ctc(model.head(last)[0], length, [small.LETTERS.index(letter) + 1 for letter in text])
        if text != UNKNOWN:
            expected = 0.7 * expected + 0.3 * ctc(model.phone_head(lower)[0], length, WORDS[text])
        assert float(losses[row].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_phones_reaches_no_layer_above_the_middle() -> None:
    encoder = EncoderConfig(layers=4, hidden=5)
    model = Recogniser(FEATURES, encoder, units=4, phones=len(PHONES))
    batch = batch_of(0, 5)
    (_, (logits, _)) = model.training_outputs(batch.inputs, batch.lengths, phones=True)
    logits.square().sum().backward()
    reached = {
        name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert {name for name in reached if name.startswith("phone_head")} == {
        "phone_head.weight",
        "phone_head.bias",
    }
    assert {name.split(".")[2] for name in reached if name.startswith("encoder.layers")} == {"0", "1"}
    assert not any(name.startswith("head") for name in reached)


def test_without_a_share_nothing_changes() -> None:
    """Neither in what a model holds nor in its losses, dropout included; and inference never sees phones."""
    encoder = EncoderConfig(layers=2, hidden=5, layer_dropout=0.3, state_dropout=0.3)
    torch.manual_seed(1)
    plain = Recogniser(FEATURES, encoder, units=4)
    torch.manual_seed(1)
    model = Recogniser(FEATURES, encoder, units=4, phones=len(PHONES))
    assert set(model.state_dict()) - set(plain.state_dict()) == {"phone_head.weight", "phone_head.bias"}
    for name, value in plain.state_dict().items():
        assert value.equal(model.state_dict()[name])
    batch, losses = batch_of(0, 3, 5), []
    for each in (plain, model):
        torch.manual_seed(2)
        losses.append(training_losses(each, batch, intermediate=0.3, consistency=0.2))
    assert losses[0].equal(losses[1])
    model.phone_head = None  # nobody asks for it
    assert model.eval()(batch.inputs, batch.lengths)[0].equal(plain.eval()(batch.inputs, batch.lengths)[0])
    with pytest.raises(ValueError, match="phones"):
        plain.training_outputs(batch.inputs, batch.lengths, phones=True)


def test_a_part_of_a_batch_without_phones_adds_no_gradient_to_their_layer() -> None:
    task, _ = small.make(phones=PHONES)
    batch = batch_of(3, 3, 0, 5, 6)
    parts = halves(batch)
    assert parts[0].phone_lengths.tolist() == [0, 0]
    assert torch.cat([part.phones for part in parts]).equal(batch.phones)
    assert torch.cat([part.phone_lengths for part in parts]).equal(batch.phone_lengths)
    parameters = list(task.model.parameters())
    sums = GradientSum(parameters), GradientSum(parameters)
    sums[0].add(batch, training_losses(task.model, batch, phones=0.3))
    for part in parts:
        sums[1].add(part, training_losses(task.model, part, phones=0.3))
    for whole, pieces in zip(sums[0].gradients, sums[1].gradients, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-5)


def phone_loss(model: Recogniser, batch: Batch) -> float:
    with torch.no_grad():
        logits, lengths = model.training_outputs(batch.inputs, batch.lengths, phones=True)[-1]
    places = torch.cat([torch.zeros(1, dtype=torch.long), batch.phone_lengths.cumsum(0)]).tolist()
    rows = zip(logits, lengths.tolist(), places, places[1:], strict=False)
    return sum(ctc(row, length, batch.phones[start:end].tolist()) for row, length, start, end in rows)


def test_training_learns_the_phones_beside_the_letters() -> None:
    task, data = small.make(phones=PHONES)
    batch = batch_of(0, 5, 6, 7)
    before = phone_loss(task.model, batch)
    losses = small.train(task, data).losses
    assert losses[-1] < losses[0] / 2
    assert phone_loss(task.model, batch) < before / 2


def bundle_with(phones: Sequence[str], letters: str = "abc") -> Bundle:
    encoder = EncoderConfig(layers=2, hidden=5)
    model = Recogniser(FEATURES, encoder, units=len(letters) + 1, phones=len(phones) + 1 if phones else 0)
    return Bundle(model.eval(), CharacterUnits(letters), FEATURES, encoder, loader="some.load", phones=phones)


def test_a_bundle_keeps_its_phones(tmp_path: Path) -> None:
    written = bundle_with(["n", "y", "ɛ", "ʃ"])
    save_bundle(tmp_path, written)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["phones"] == ["n", "y", "ɛ", "ʃ"]
    read = load_bundle(tmp_path)
    assert list(read.phones) == ["n", "y", "ɛ", "ʃ"]
    for name, value in written.model.state_dict().items():
        assert value.equal(read.model.state_dict()[name])
    save_bundle(tmp_path, bundle_with([]))
    assert "phones" not in (tmp_path / "config.yaml").read_text()
    assert load_bundle(tmp_path).model.phone_head is None


def test_training_begins_with_the_phones_that_it_shares(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_bundle(tmp_path, old := bundle_with(["k", "æ", "t"]))
    new = bundle_with(["t", "ʃ", "æ"], letters="ab%")
    assert new.model.phone_head is not None
    assert old.model.phone_head is not None
    drawn = new.model.phone_head.weight.detach().clone()
    options = {"features": FEATURES, "encoder": old.encoder, "bundle": tmp_path}
    with caplog.at_level(logging.INFO):
        initialise(new.model, new.units, phones=new.phones, **options)  # type: ignore[arg-type]
    expected = torch.stack([old.model.phone_head.weight[row] for row in (0, 3, 0, 2)])
    expected[2] = drawn[2]
    assert new.model.phone_head.weight.equal(expected)
    assert new.model.phone_head.bias[3] == old.model.phone_head.bias[2]
    assert "3 of 4 phones; new: 'ʃ'; left out: 'k'" in caplog.text


@pytest.mark.parametrize(("there", "here"), [((), ("k",)), (("k",), ())])
def test_training_begins_from_a_model_of_other_kind(
    tmp_path: Path, there: Sequence[str], here: Sequence[str]
) -> None:
    save_bundle(tmp_path, old := bundle_with(there))
    new = bundle_with(here)
    head = None if new.model.phone_head is None else new.model.phone_head.weight.detach().clone()
    initialise(new.model, new.units, phones=here, features=FEATURES, encoder=old.encoder, bundle=tmp_path)
    assert new.model.head.weight.equal(old.model.head.weight)
    assert head is None or (new.model.phone_head is not None and new.model.phone_head.weight.equal(head))


RECIPE = Recipe(
    name="small",
    corpus=CorpusConfig(prepare="nothing", load="some.load"),
    features=FEATURES,
    encoder=EncoderConfig(layers=2, hidden=8),
    data=DataConfig(batch_seconds=2.0),
    training=TrainingConfig(epochs=1),
)


def test_synthetic_speech_is_learned_from_with_the_same_phones() -> None:
    recipe = replace(
        RECIPE,
        phones=PhonesConfig(share=0.3, lang="en-us"),
        bootstrap=BootstrapConfig(hours=1.0),
    )
    assert bootstrap_recipe(recipe).phones == recipe.phones


def test_a_recipe_trains_with_phones_and_anew_when_the_dictionary_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifests = {"train": tmp_path / "train.jsonl", "dev": tmp_path / "dev.jsonl"}
    for path, rows in zip(manifests.values(), (small.TRAIN, small.DEV), strict=True):
        write_manifest(path, rows)
    lexicon = tmp_path / "lexicon"
    lexicon.write_text("".join(f"{word} {' '.join(word.upper())}\n" for word in WORDS))

    def train(recipe: Recipe) -> int:
        """When the weights were written."""
        console = Console(file=io.StringIO())
        experiment = Experiment(recipe, tmp_path / "exp", load=small.pulses, command="test", console=console)
        experiment.train(manifests)
        return (experiment.model / "model.safetensors").stat().st_mtime_ns

    with_phones = replace(RECIPE, phones=PhonesConfig(share=0.3, lexicon=str(lexicon)))
    first = train(with_phones)
    assert list(load_bundle(tmp_path / "exp" / "model").phones) == ["A", "B", "C"]
    assert (
        f"1 words (1 times in the transcripts) have no known pronunciation, such as {UNKNOWN};" in caplog.text
    )
    assert train(with_phones) == first
    os.utime(lexicon, ns=(1, 1))
    second = train(with_phones)
    assert second > first
    third = train(RECIPE)
    assert third > second
    assert load_bundle(tmp_path / "exp" / "model").model.phone_head is None
    # Where none are learned it does not matter who would know them.
    assert train(replace(RECIPE, phones=PhonesConfig(lang="en-us"))) == third
