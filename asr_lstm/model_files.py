"""What every trained model on disk has: weights and a configuration, each written atomically, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save
from torch import nn

from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write

CONFIG_NAME = "config.yaml"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"


def write_weights(folder: Path, model: nn.Module) -> None:
    """Write the weights of a model, from wherever they are.

    The configuration goes: until `write_config` brings it anew, last of all files, the folder does not load.
    """
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS_NAME, "wb") as file:
        file.write(save(weights))


def read_weights(folder: Path, model: nn.Module) -> None:
    """Load what `write_weights` wrote into a model; torch's and safetensors' own errors where it does not fit."""
    model.load_state_dict(load_file(folder / WEIGHTS_NAME))


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration, which makes the folder whole."""
    with atomic_write(folder / CONFIG_NAME) as file:
        yaml.safe_dump(dict(config), file, sort_keys=False)


def read_config(folder: Path, *, missing: str) -> Any:
    """What stands in the configuration of a folder, as YAML has it.

    Args:
        folder: of a model.
        missing: what the folder is called where there is no configuration, such as "not a model".

    Raises:
        ConfigError: there is none, or it is not YAML.
    """
    path = folder / CONFIG_NAME
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder}: {missing} ({CONFIG_NAME}: {error.strerror}); give the folder that training wrote"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({first_line(error)})") from error


def write_card(folder: str | Path, card: str) -> None:
    """Write the model card."""
    with atomic_write(Path(folder) / CARD_NAME) as file:
        file.write(card)


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
