"""Beginning from a trained bundle instead of from chance, as `training.init` asks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr_lstm.bundle import UNITS_NAME, load_bundle
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.model_files import CONFIG_NAME, WEIGHTS_NAME
from asr_lstm.stages import content_digest
from asr_lstm.units import BLANK, Units

log = logging.getLogger(__name__)


def initialise(
    model: Recogniser,
    units: Units,
    *,
    phones: Sequence[str] = (),
    features: FeatureConfig,
    encoder: EncoderConfig,
    bundle: str | Path,
) -> None:
    """Copy the weights of a bundle's encoder into a model, and those rows of its heads whose units both have.

    The normalisation of the front end stays the model's own, fitted to the new data: other microphones and
    rooms are what one fine-tunes for. Rows of units that the bundle lacks stay as they were drawn, and so do those of
    phones; a log line names what was replaced.

    Args:
        model: changed in place.
        units: of the model.
        phones: of the model, where it has any.
        features: of the model; those of the bundle must be the same.
        encoder: of the model; that of the bundle must be the same, dropout and zoneout aside.
        bundle: the folder.

    Raises:
        ConfigError: there is no such bundle, or its features or its encoder are others.
    """
    old = load_bundle(bundle)
    differing = _differing("features", asdict(old.features), asdict(features))
    differing += _differing("encoder", _structure(old.encoder), _structure(encoder))
    if differing:
        raise ConfigError(
            f"training.init: {bundle} is another model than the recipe's: {', '.join(differing)}; "
            "say in the recipe what the bundle has, or leave training.init out"
        )
    model.encoder.load_state_dict(old.model.encoder.state_dict())
    same = _common_rows(_symbols(units), _symbols(old.units))
    taken = [f"{len(same)} of {len(units)} units; {_changes(_symbols(units), _symbols(old.units))}"]
    _copy_rows(model.head, old.model.head, same)
    if model.phone_head is not None and old.model.phone_head is not None:
        same = _common_rows(phones, old.phones)
        taken.append(f"{len(same)} of {len(phones) + 1} phones; {_changes(phones, old.phones)}")
        _copy_rows(model.phone_head, old.model.phone_head, same)
    if (model.phone_head is None) == (old.model.phone_head is None):
        _copy_conditioning(model, old.model, same)
    log.info("began from %s: its encoder and %s", bundle, "; ".join(taken))


def _common_rows(symbols: Sequence[str], old_symbols: Sequence[str]) -> dict[int, int]:
    """The rows of the blank and of the symbols that both have: here, and there."""
    rows = {symbol: row for row, symbol in enumerate(old_symbols, start=1)}
    shared = {row: rows[symbol] for row, symbol in enumerate(symbols, start=1) if symbol in rows}
    return {BLANK: BLANK, **shared}


def _changes(symbols: Sequence[str], old_symbols: Sequence[str]) -> str:
    new = [symbol for symbol in symbols if symbol not in set(old_symbols)]
    gone = [symbol for symbol in old_symbols if symbol not in set(symbols)]
    added, left_out = (" ".join(map(repr, names)) or "none" for names in (new, gone))
    return f"new: {added}; left out: {left_out}"


def _copy_rows(head: nn.Linear, old: nn.Linear, rows: Mapping[int, int]) -> None:
    here, there = list(rows), list(rows.values())
    with torch.no_grad():
        head.weight[here] = old.weight[there]
        head.bias[here] = old.bias[there]


def _copy_conditioning(model: Recogniser, old: Recogniser, rows: Mapping[int, int]) -> None:
    """What later layers hear of each symbol that both have; of others they begin with nothing."""
    if model.conditioning is None or old.conditioning is None:
        return
    with torch.no_grad():
        model.conditioning.weight[:, list(rows)] = old.conditioning.weight[:, list(rows.values())]


def bundle_digest(bundle: str | Path) -> str:
    """A digest of a bundle's contents, its card aside.

    Raises:
        ConfigError: there is no such bundle.
    """
    try:
        return " ".join(
            content_digest(Path(bundle) / name) for name in (CONFIG_NAME, UNITS_NAME, WEIGHTS_NAME)
        )
    except OSError as error:
        raise ConfigError(
            f"training.init: {bundle}: not a model ({error.strerror}); give the folder that training wrote"
        ) from error


def _structure(encoder: EncoderConfig) -> dict[str, Any]:
    """The settings that decide which weights there are and how they are used, not those of regularisation."""
    settings = asdict(encoder)
    return {
        name: value for name, value in settings.items() if not name.endswith("dropout") and "zone" not in name
    }


def _differing(section: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [
        f"{section}.{name} {old.get(name)} there, {value} here"
        for name, value in new.items()
        if old.get(name) != value
    ]


def _symbols(units: Units) -> list[str]:
    """What each unit after the blank is called."""
    symbols: list[str] = list(getattr(units, "symbols", ()))
    if len(symbols) != len(units) - 1:
        raise ConfigError(f"training.init: units of kind {units.kind} have no names to match; leave it out")
    return symbols
