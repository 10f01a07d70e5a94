"""The typed form of a recipe.yaml; the dataclasses' docstrings are the help."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from asr_lstm.augment import AugmentConfig
from asr_lstm.batching import DataConfig
from asr_lstm.bootstrap import BootstrapConfig
from asr_lstm.convolution import time_strides
from asr_lstm.decoding.options import DecodingConfig
from asr_lstm.errors import ConfigError
from asr_lstm.features import FeatureConfig
from asr_lstm.files import atomic_write
from asr_lstm.model import EncoderConfig, middle_layer
from asr_lstm.phones import PhonesConfig
from asr_lstm.schedule import TrainingConfig
from asr_lstm.unit_kinds import UnitsConfig
from asr_lstm.units import Normaliser

RECIPE_NAME = "recipe.yaml"


@dataclass(frozen=True)
class CorpusConfig:
    """Where the data comes from.

    Attributes:
        prepare: dotted name of a function `(output: Path, **options)` that writes manifests into `output` and
            returns them by split, as a dict or as `asr_lstm.corpora.Prepared`. A module beside recipe.yaml
            is found.
        options: its options.
        load: dotted name of a function that reads an utterance as (frames, dims); "" for audio.
    """

    prepare: str
    options: dict[str, Any] = field(default_factory=dict)
    load: str = ""


@dataclass(frozen=True)
class Recipe:
    """A whole recipe: data, model, training.

    Attributes:
        name: also that of its folder under exp/.
        corpus: where the data comes from.
        text: how transcripts are normalised, in training, in scoring and in what is printed.
        units: what the network writes.
        features: what the encoder hears.
        augment: what is done to training data only.
        encoder: the stack of LSTM layers.
        data: how utterances become batches.
        training: how the model is trained.
        bootstrap: synthetic speech to learn from before.
        phones: what the middle layer learns beside.
        decoding: how texts are found.
        seed: of everything random.
        minutes: of training; where above 0, what the recipe does not say is chosen from its data and this time
            (`asr_lstm.defaults`), and the settings that are written say 0 again.
        environment: options that an environment variable sets, such as `LIBRISPEECH: corpus.options.source`.
    """

    name: str
    corpus: CorpusConfig
    text: Normaliser = field(default_factory=Normaliser)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    seed: int = 1
    minutes: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0 .. {2**32 - 1}, not {self.seed}")
        if not 0 <= self.minutes < float("inf"):
            raise ValueError(f"minutes must not be below 0, but is {self.minutes}")
        if self.minutes and self.features.kind != "log_mel":
            raise ValueError("minutes: settings are chosen for audio alone; say them all, and minutes 0")
        if self.features.kind == "frames" and not self.corpus.load:
            raise ValueError("features.kind is `frames`: corpus.load must name the function that reads them")
        if self.features.kind == "log_mel" and self.corpus.load:
            raise ValueError(
                "corpus.load is for frames; say features.kind `frames`, or leave it out for audio"
            )
        if self.encoder.convolution:
            time_strides(self.features.stack)
        if self.training.intermediate or self.phones.share:
            middle_layer(self.encoder.layers)
        elif self.encoder.self_conditioning:
            raise ValueError(
                "encoder.self_conditioning needs phones.share or training.intermediate: "
                "nothing else teaches the middle layer what it is to believe in; or say false"
            )


def recipe_parser(prog: str = "asr-lstm recipe FOLDER") -> ArgumentParser:
    """The parser of recipe.yaml and of the options that override it."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a recipe.yaml")
    parser.add_class_arguments(Recipe)
    return parser


def load_recipe(
    folder: str | Path,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    chosen: Sequence[str] = (),
) -> Recipe:
    """Read a recipe.

    Args:
        folder: with a recipe.yaml, or that file itself.
        options: overrides such as `--training.epochs 3`; they win over the environment, and that over the file.
        environment: where the variables named in the recipe's `environment` are looked up.
        chosen: options for what the recipe leaves open; the file wins over them.

    Raises:
        ConfigError: no such recipe, a key that does not exist, a value that does not fit.
    """
    path = Path(folder)
    path = path / RECIPE_NAME if path.is_dir() else path
    tree = _read_yaml(path)
    variables = _check_keys(tree, Recipe, path=path).get("environment") or {}
    overrides = []
    for variable, option in variables.items():
        if value := environment.get(variable):
            overrides += [f"--{option}={_scalar(value)}"]
    try:
        parser = recipe_parser()
        namespace = parser.parse_args([*chosen, f"--config={path}", *overrides, *options])
        values = parser.instantiate(namespace).as_dict()
        values.pop("config")
        return Recipe(**values)
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from error


def write_settings(path: str | Path, recipe: Recipe, *, remarks: Sequence[str] = ()) -> None:
    """Write all settings of a recipe, defaults and overrides included, as a recipe.yaml, if they are not there.

    The remarks, a line each, become comments at its head.
    """
    plain = json.loads(json.dumps(asdict(recipe), default=str))  # tuples become lists, paths text
    text = "".join(f"# {remark}\n" for remark in remarks)
    text += yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    if not Path(path).is_file() or Path(path).read_text(encoding="utf-8") != text:
        with atomic_write(path) as file:
            file.write(text)


def _read_yaml(path: Path) -> yaml.Node:
    try:
        with path.open(encoding="utf-8") as file:
            node = yaml.compose(file, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(
            f"{path}: no recipe there ({error.strerror}); give a folder with a recipe.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({_one_line(error)})") from error
    if node is None:
        raise ConfigError(f"{path}: the recipe is empty; it needs at least `name` and `corpus`")
    return node


def _check_keys(node: yaml.Node, kind: Any, *, path: Path) -> dict[str, Any]:
    """Raise on a key that the dataclass `kind` lacks, naming its line; return the plain `environment` section."""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{path}:{node.start_mark.line + 1}: this section must be a mapping of names to values"
        )
    known = get_type_hints(kind)
    plain: dict[str, Any] = {}
    for key, value in node.value:
        if key.value not in known:
            close = difflib.get_close_matches(str(key.value), known, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}:{key.start_mark.line + 1}: unknown key `{key.value}`; {hint}")
        if is_dataclass(known[key.value]):
            _check_keys(value, known[key.value], path=path)
        elif key.value == "environment" and isinstance(value, yaml.MappingNode):
            plain["environment"] = {name.value: option.value for name, option in value.value}
    return plain


def _scalar(value: str) -> str:
    """A variable's value as YAML: where that would read a mapping or a list, as in a folder named `a: b`, quoted."""
    try:
        plain = isinstance(yaml.safe_load(value), str | int | float)
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or type(error).__name__
