"""A trained model on disk: one directory that loads without pickle and without Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save

from asr_lstm.decoding.tuned import Tuned, load_tuned, save_tuned
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.files import atomic_write
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.unit_kinds import load_units
from asr_lstm.units import Normaliser, Units

CONFIG_NAME = "config.yaml"
WEIGHTS_NAME = "model.safetensors"
UNITS_NAME = "units.txt"
CARD_NAME = "README.md"
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
        tuned: what `asr-lstm tune` found for its decoders.
    """

    model: Recogniser
    units: Units
    features: FeatureConfig
    encoder: EncoderConfig
    loader: str
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
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in bundle.model.state_dict().items()}
    with atomic_write(folder / WEIGHTS_NAME, "wb") as file:
        file.write(save(weights))
    bundle.units.save(folder / UNITS_NAME)
    save_tuned(folder, bundle.tuned)  # what was tuned for another model goes
    with atomic_write(folder / CONFIG_NAME) as file:
        yaml.safe_dump(config, file, sort_keys=False)


def write_card(folder: str | Path, card: str) -> None:
    """Write the model card of a bundle."""
    with atomic_write(Path(folder) / CARD_NAME) as file:
        file.write(card)


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
        model = Recogniser(features, encoder, units=len(units))
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged file makes torch, yaml or safetensors say
        reason = _first_line(error)
        raise ConfigError(f"{folder}: the model cannot be loaded ({reason}); save it anew") from error
    return Bundle(model.eval(), units, features, encoder, loader=config["loader"], tuned=load_tuned(folder))


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder}: not a model ({CONFIG_NAME}: {error.strerror}); give the folder that training wrote"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / CONFIG_NAME}: not YAML ({_first_line(error)})") from error
    if not isinstance(config, Mapping) or config.get("format") != FORMAT:
        raise ConfigError(f"{folder / CONFIG_NAME}: not the configuration of a model of format {FORMAT}")
    missing = [
        name for name in ("units", "normaliser", "features", "encoder", "loader") if name not in config
    ]
    if missing:
        raise ConfigError(f"{folder / CONFIG_NAME}: {', '.join(missing)} missing; save the model anew")
    return config


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
