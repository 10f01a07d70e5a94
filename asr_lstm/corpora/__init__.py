"""Corpora: one module each, with `prepare_NAME` and, where the corpus may be fetched, `download_NAME`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Prepared:
    """What preparing a corpus gives a recipe.

    Attributes:
        manifests: of each split: `train` to learn from, `dev` to choose by, every other one to be tested on.
        notes: what a reader of the results must know, such as that the speech is synthetic.
        depends: files that were made, without which the corpus has to be prepared again.
        folds: for cross-validation, by name: each with its own `train`, `dev` and `test`. A model is trained for
            each, the tests are scored as `test-NAME` and together as `test`; the model that is kept learns from
            `manifests["train"]`, which may hold what the folds test on.
    """

    manifests: dict[str, Path]
    notes: list[str] = field(default_factory=list)
    depends: list[Path] = field(default_factory=list)
    folds: dict[str, Prepared] = field(default_factory=dict)
