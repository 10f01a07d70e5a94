"""A trained model on disk: one directory that loads without pickle and without Lightning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asr_lstm.decoding.tuned import Tuned, load_tuned, save_tuned
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.model_files import (
    CONFIG_NAME,
    first_line,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from asr_lstm.unit_kinds import load_units
from asr_lstm.units import Normaliser, Units

UNITS_NAME = "units.txt"
FORMAT = 2  # raised when a bundle of today could not be read any more


@dataclass
class Bundle:
    """A recogniser with all it needs to be run.

    Attributes:
        model: in evaluation mode when loaded.
        units: what its outputs stand for.
        features: the front end's configuration.
        encoder: the encoder's configuration.
        loader: dotted name of the function that reads an utterance for it.
        phones: that its middle layer learned in training; but for `encoder.self_conditioning`, nothing else than
            another training has use for them.
        tuned: what `asr-lstm tune` found for its decoders.
    """

    model: Recogniser
    units: Units
    features: FeatureConfig
    encoder: EncoderConfig
    loader: str
    phones: Sequence[str] = ()
    tuned: Tuned = field(default_factory=Tuned)

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def save_bundle(folder: str | Path, bundle: Bundle) -> None:
    """Write a bundle, each file atomically, the configuration last, so that half a bundle does not load.

    Args:
        folder: made where missing.
        bundle: what to save; weights are saved from wherever they are.
    """
    folder = Path(folder)
    config = {
        "format": FORMAT,
        "units": bundle.units.kind,
        "normaliser": asdict(bundle.units.normaliser),
        "features": asdict(bundle.features),
        "encoder": asdict(bundle.encoder),
        "loader": bundle.loader,
    }
    if bundle.phones:
        config["phones"] = list(bundle.phones)
    write_weights(folder, bundle.model)
    bundle.units.save(folder / UNITS_NAME)
    save_tuned(folder, bundle.tuned)  # what was tuned for another model goes
    write_config(folder, config)


def load_bundle(folder: str | Path) -> Bundle:
    """Load a bundle on the CPU, its model in evaluation mode.

    Raises:
        ConfigError: the folder is no bundle, or its files do not belong together.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        features = FeatureConfig(**config["features"])
        encoder = EncoderConfig(**config["encoder"])
        units = load_units(config["units"], folder / UNITS_NAME, Normaliser(**config["normaliser"]))
        phones = tuple(config.get("phones", ()))
        model = Recogniser(features, encoder, units=len(units), phones=len(phones) + 1 if phones else 0)
        read_weights(folder, model)
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged file makes torch, yaml or safetensors say
        raise ConfigError(
            f"{folder}: the model cannot be loaded ({first_line(error)}); save it anew"
        ) from error
    return Bundle(
        model.eval(),
        units,
        features,
        encoder,
        loader=config["loader"],
        phones=phones,
        tuned=load_tuned(folder),
    )


def _read_config(folder: Path) -> Mapping[str, Any]:
    config = read_config(folder, missing="not a model")
    if not isinstance(config, Mapping) or config.get("format") != FORMAT:
        raise ConfigError(f"{folder / CONFIG_NAME}: not the configuration of a model of format {FORMAT}")
    missing = [
        name for name in ("units", "normaliser", "features", "encoder", "loader") if name not in config
    ]
    if missing:
        raise ConfigError(f"{folder / CONFIG_NAME}: {', '.join(missing)} missing; save the model anew")
    return config
