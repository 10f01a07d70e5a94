"""What a trained model depends on: settings, and digests of data. One that has changed means to train anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr_lstm.config import Recipe
from asr_lstm.stages import content_digest, tree_digest

# Settings that change how fast a model comes, but not the model.
_NOT_THE_MODEL = (
    ("data", "workers"),
    ("data", "cache_gib"),
    ("data", "eval_seconds"),
    ("training", "device"),
    ("training", "deterministic"),
    ("training", "checkpoint_minutes"),
    ("training", "recompute"),
    ("training", "tolerate_share"),
    ("training", "stop_after_nonfinite"),
)


def model_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that a model depends on, by section; without those of its data.

    A setting that came after there were models is left out where it is off, so that they stand.
    """
    sections = asdict(recipe)
    for name in ("corpus", "environment", "decoding", "bootstrap", "minutes"):
        del sections[name]
    for section, name in _NOT_THE_MODEL:
        del sections[section][name]
    training = sections["training"]
    if not recipe.phones.share:
        del sections["phones"]
    if not recipe.augment.splice:
        del sections["augment"]["splice"]
    if not (recipe.augment.splice and recipe.augment.splice_again):
        del sections["augment"]["splice_again"]
    if recipe.units.kind != "pieces":
        del sections["units"]["size"]
    if not recipe.training.errors:
        del training["errors"], training["errors_from"]
    if not recipe.training.dropout_epochs:
        del training["dropout_epochs"]
    return sections


def inputs_beside(recipe: Recipe, dev: Path) -> dict[str, Any]:
    """What else than settings and training data a model depends on."""
    inputs = {
        "load": recipe.corpus.load,
        "dev": content_digest(dev),
        "noise": tree_digest([recipe.augment.noise_folder]),
    }
    if recipe.phones.share:
        inputs["lexicon"] = tree_digest([recipe.phones.lexicon])
    return inputs


def known_inputs(recipe: Recipe, manifests: Mapping[str, Path]) -> dict[str, Any]:
    """What the model depends on, as far as it is known before synthetic speech is made and learned from.

    Args:
        recipe: of the model.
        manifests: `train` and `dev`.
    """
    known = model_settings(recipe) | inputs_beside(recipe, manifests["dev"])
    del known["training"]["init"]
    known["recordings"] = content_digest(manifests["train"])
    if recipe.bootstrap.hours:
        known["bootstrap"] = asdict(recipe.bootstrap)
        known["texts"] = tree_digest(recipe.bootstrap.text)
    return known
