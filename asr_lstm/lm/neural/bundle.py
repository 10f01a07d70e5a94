"""A neural language model on disk: one folder that loads without pickle and without Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr_lstm.errors import ConfigError
from asr_lstm.lm.neural.network import LanguageModel, NetworkConfig
from asr_lstm.lm.neural.text_units import TextUnits, load_units
from asr_lstm.model_files import (
    CONFIG_NAME,
    first_line,
    read_config,
    read_weights,
    write_card,
    write_config,
    write_weights,
)
from asr_lstm.units import Normaliser

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
    write_weights(folder, lm.model)
    lm.units.save(folder)
    write_card(folder, card)
    write_config(folder, config)


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
        read_weights(folder, model)
    except Exception as error:  # whatever a damaged file makes torch, yaml or safetensors say
        raise ConfigError(
            f"{folder}: the language model cannot be loaded ({first_line(error)}); train it anew"
        ) from error
    return NeuralLM(model.eval(), units, network, normaliser)


def _read_config(folder: Path) -> Mapping[str, Any]:
    config = read_config(folder, missing="no language model")
    if not isinstance(config, Mapping) or (config.get("kind"), config.get("format")) != (KIND, FORMAT):
        raise ConfigError(
            f"{folder / CONFIG_NAME}: not the configuration of an LSTM language model of format {FORMAT}"
        )
    return config
