"""The synthetic speech of an experiment: made once, and made anew when what it depends on has changed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from asr_lstm.bootstrap import speak_transcripts
from asr_lstm.config import Recipe
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import iter_manifest, write_manifest
from asr_lstm.manifest_index import open_manifest
from asr_lstm.phones import check_phones
from asr_lstm.resume import CHECKPOINTS_NAME, any_under_way
from asr_lstm.stages import Stages, content_digest, tree_digest


class SpokenTranscripts:
    """What espeak-ng says for a recipe, in `manifests/` of a folder.

    Args:
        recipe: whose `bootstrap` says what.
        folder: for it, and for what is learned from it alone.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self._stages = Stages(folder / "stages.json")

    def make(self, train: Path) -> Path | None:
        """The manifest of the speech, made of the training transcripts; None where the recipe asks for none.

        Where it is to be mixed in, the training data stands before it.

        Args:
            train: manifest of the training data.

        Raises:
            ConfigError: the recipe names another model to begin from as well, its data is no audio, it wants shards,
                which mixed data does not lie in, or words cannot be turned into the phones that it wants.
        """
        config = self.recipe.bootstrap
        if not config.hours:
            return None
        self._check()
        key = self._key(content_digest(train))
        if (record := self._stages.done("prepare", key)) is None:
            check_phones(self.recipe.phones)  # before anything takes long
            transcripts = [utterance.text for utterance in open_manifest(train, self.recipe.text)]
            folder = self.folder / "manifests"
            prepared = speak_transcripts(config, transcripts, output=folder, seed=self.recipe.seed)
            spoken = prepared.manifests["train"]
            if config.how != "begin":
                rows = itertools.chain(iter_manifest(train), iter_manifest(spoken))
                spoken = spoken.with_name("mixed.jsonl")
                write_manifest(spoken, rows)
            record = {"train": str(spoken)}
            self._stages.finish("prepare", key, record, outputs=[spoken, *prepared.depends])
        return Path(record["train"])

    def refuse_others(self, recordings: str) -> None:
        """See that no learning from other synthetic speech is under way, whose voices would be removed.

        Args:
            recordings: digest of the training manifest.

        Raises:
            ConfigError: there is one.
        """
        if not self.recipe.bootstrap.hours or not any_under_way(self.folder / CHECKPOINTS_NAME):
            return
        if self._stages.done("prepare", self._key(recordings)) is None:
            raise ConfigError(
                f"{self.folder}: learning from other synthetic speech is not done; set the transcripts and the "
                "settings of bootstrap back to go on with it, or say --fresh to start over"
            )

    def _check(self) -> None:
        """See that what the recipe says goes together; errors as of `make`."""
        config = self.recipe.bootstrap
        if self.recipe.training.init and config.how == "begin":
            raise ConfigError(
                "bootstrap.hours: the recipe begins from training.init already; leave one of them out"
            )
        if self.recipe.features.kind != "log_mel":
            raise ConfigError(f"bootstrap.hours: speech is no {self.recipe.features.kind}; say 0")
        if self.recipe.data.shards_at_once and config.how != "begin":
            raise ConfigError(
                f"data.shards_at_once: the synthetic speech of bootstrap.how {config.how} lies in no shards; say 0, "
                "or let it begin"
            )

    def _key(self, recordings: str) -> dict[str, Any]:
        """What the speech depends on; `recordings` is the digest of the training manifest."""
        config = self.recipe.bootstrap
        return config.spoken | {
            "train": recordings,
            "texts": tree_digest(config.text),
            "seed": self.recipe.seed,
        }
