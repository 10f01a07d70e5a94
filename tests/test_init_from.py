"""Beginning from a trained bundle: which weights are taken over, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr_lstm.bundle import load_bundle
from asr_lstm.errors import ConfigError
from asr_lstm.init_from import bundle_digest, initialise
from asr_lstm.model import Recogniser
from asr_lstm.units import CharacterUnits


def test_encoder_and_shared_units_are_taken_and_new_units_keep_their_draw(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = load_bundle(tiny_bundle)
    units = CharacterUnits(["e", "z", "a"])
    encoder = replace(old.encoder, layer_dropout=0.4, zoneout_cell=0.1)  # regularisation may differ
    model = Recogniser(old.features, encoder, units=len(units))
    drawn = model.head.weight.detach().clone()
    before = {name: value.clone() for name, value in model.front_end.state_dict().items()}
    with caplog.at_level(logging.INFO):
        initialise(model, units, features=old.features, encoder=encoder, bundle=tiny_bundle)
    for name, value in old.model.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value)
    symbols = list(old.units.symbols)  # type: ignore[attr-defined]
    for row, old_row in ((0, 0), (1, symbols.index("e") + 1), (3, symbols.index("a") + 1)):
        assert torch.equal(model.head.weight[row], old.model.head.weight[old_row])
        assert torch.equal(model.head.bias[row], old.model.head.bias[old_row])
    assert torch.equal(model.head.weight[2], drawn[2])
    assert all(torch.equal(value, before[name]) for name, value in model.front_end.state_dict().items())
    assert "3 of 4 units; new: 'z'; left out: ' ' 'b' 'c' 'd'" in caplog.text


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("encoder", {"hidden": 24}, "encoder.hidden 16 there, 24 here"),
        ("features", {"stack": 3}, "features.stack 2"),
    ],
)
def test_another_model_is_refused_in_one_line(
    tiny_bundle: Path, section: str, change: dict[str, int], said: str
) -> None:
    old = load_bundle(tiny_bundle)
    configs = {"features": old.features, "encoder": old.encoder}
    configs[section] = replace(configs[section], **change)  # type: ignore[type-var]
    model = Recogniser(configs["features"], configs["encoder"], units=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said) as raised:
        initialise(model, CharacterUnits(["a", "b"]), **configs, bundle=tiny_bundle)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert str(tiny_bundle) in str(raised.value)


def test_the_digest_is_that_of_the_contents(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny_bundle.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert bundle_digest(copy) == bundle_digest(tiny_bundle)
    (copy / "units.txt").write_text("<blank>\na\n")
    assert bundle_digest(copy) != bundle_digest(tiny_bundle)
    with pytest.raises(ConfigError, match="not a model"):
        bundle_digest(tmp_path / "absent")
