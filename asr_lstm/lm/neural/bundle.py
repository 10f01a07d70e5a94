"""A neural language model on disk: one folder that loads without pickle and without Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save

from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.text_units import TextUnits, load_units
from asr_lstm.units import Normaliser

CONFIG_NAME = "config.yaml"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
KIND = "lstm language model"
FORMAT = 1  # raised when a bundle of today could not be read any more


@dataclass
class NeuralLM:
    """A language model with all it needs to be run.

    Attributes:
        model: in evaluation mode when loaded.
        units: what it reads and writes.
        network: its configuration.
        normaliser: of the texts it was trained on; None where they were taken as they stand.
    """

    model: LanguageModel
    units: TextUnits
    network: NetworkConfig
    normaliser: Normaliser | None

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def normalise(self, text: str) -> str:
        """A text as the model knows texts, line by line."""
        if self.normaliser is None:
            return text
        return "\n".join(self.normaliser(line) for line in text.split("\n"))


def save_neural(folder: str | Path, lm: NeuralLM, *, card: str) -> None:
    """Write a model, each file atomically, the configuration last, so that half a model does not load.

    Args:
        folder: made where missing.
        lm: what to save.
        card: the text of its README.md.
    """
    folder = Path(folder)
    config = {
        "format": FORMAT,
        "kind": KIND,
        "normaliser": None if lm.normaliser is None else asdict(lm.normaliser),
        "network": asdict(lm.network),
    }
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in lm.model.state_dict().items()}
    with atomic_write(folder / WEIGHTS_NAME, "wb") as file:
        file.write(save(weights))
    lm.units.save(folder)
    with atomic_write(folder / CARD_NAME) as file:
        file.write(card)
    with atomic_write(folder / CONFIG_NAME) as file:
        yaml.safe_dump(config, file, sort_keys=False)


def load_neural(folder: str | Path) -> NeuralLM:
    """Load a model on the CPU, in evaluation mode.

    Raises:
        ConfigError: the folder holds none, or its files do not belong together.
    """
    folder = Path(folder)
    config = _read_config(folder)
    units = load_units(folder)
    try:
        network = NetworkConfig(**config["network"])
        normaliser = None if config["normaliser"] is None else Normaliser(**config["normaliser"])
        model = LanguageModel(network, units=len(units))
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except Exception as error:  # whatever a damaged file makes torch, yaml or safetensors say
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{folder}: the language model cannot be loaded ({reason}); train it anew"
        ) from error
    return NeuralLM(model.eval(), units, network, normaliser)


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_NAME
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder}: no language model ({CONFIG_NAME}: {error.strerror}); give the folder that training wrote"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(config, Mapping) or (config.get("kind"), config.get("format")) != (KIND, FORMAT):
        raise ConfigError(f"{path}: not the configuration of an LSTM language model of format {FORMAT}")
    return config
