"""What `asr-lstm tune` found for a model, kept in its bundle: the weights and the calibration of each decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asr_lstm.decoding.calibration import Calibration
from asr_lstm.decoding.options import DRAWS, HOTWORDS, RESCORE, without
from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write

TUNED_NAME = "decoding.json"


@dataclass(frozen=True)
class Tuned:
    """By decoder, what was found on a dev set.

    Attributes:
        weights: by their names in `DecodingConfig`.
        calibrations: from the scores of a word to the probability that it is right.
        source: what it was found with, for people: the dev manifest and the models.
    """

    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.weights or self.calibrations)

    def weights_of(self, decoder: str) -> Mapping[str, float]:
        """The weights of a decoder; hotwords and draws of dropout leave those of the others as they are.

        Those that were tuned with hotwords, which the weight of a second pass may have been, come first.
        """
        name = without(decoder, HOTWORDS, DRAWS)
        first_pass = self.weights.get(without(name, RESCORE), {})
        return {**first_pass, **self.weights.get(name, {}), **self.weights.get(decoder, {})}


def save_tuned(folder: str | Path, tuned: Tuned) -> None:
    """Write `decoding.json` of a bundle, or remove it where there is nothing to keep."""
    path = Path(folder) / TUNED_NAME
    if not tuned:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        json.dump(asdict(tuned), file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def load_tuned(folder: str | Path) -> Tuned:
    """Read what `save_tuned` wrote; nothing is tuned where there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    path = Path(folder) / TUNED_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Tuned(
            weights={name: _numbers(weights) for name, weights in data["weights"].items()},
            calibrations={
                name: Calibration(tuple(map(float, one["weights"])), float(one["bias"]))
                for name, one in data["calibrations"].items()
            },
            source=dict(data.get("source", {})),
        )
    except FileNotFoundError:
        return Tuned()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged; run `asr-lstm tune` again, or delete it") from error


def _numbers(weights: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in weights.items()}
