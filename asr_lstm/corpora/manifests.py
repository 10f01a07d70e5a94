"""Data that is listed already: a manifest to learn from and, where there is one, another to choose the model by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.published import write_split
from asr_lstm.corpora.splits import split_utterances
from asr_lstm.corpora.validate import report_dropped, validate_utterances
from asr_lstm.errors import ConfigError
from asr_lstm.manifest import Utterance, read_manifest


def prepare_manifests(
    output: str | Path,
    *,
    train: str | Path,
    dev: str | Path = "",
    lang: str = "",
    share: float = 0.1,
    seed: int = 1,
) -> Prepared:
    """Write the manifests `train` and `dev`.

    Faulty utterances are left out and listed with the reason in `dropped.tsv`. Without `dev` a share of `train` is
    held out, by speaker or else by recording; see `asr_lstm.corpora.splits.split_utterances`.

    Args:
        output: folder for the manifests.
        train: the manifest to learn from.
        dev: the one to choose by; "" for none.
        lang: the language of all of them, such as `cs`; "" leaves what the rows say.
        share: of the seconds of `train` that are held out where there is no `dev`.
        seed: of that division.

    Raises:
        DataError: a manifest that cannot be read, nothing in it that can be used, or too little to divide.
        ConfigError: a manifest would be written over one of those that are given.
    """
    output = Path(output)
    given = {"train": Path(train), "dev": Path(dev)} if dev else {"train": Path(train)}
    for path in given.values():
        if path.resolve().parent == output.resolve():
            raise ConfigError(
                f"{path}: lies where the manifests of this run are written; choose another --output"
            )
    found = [(split, row) for split, path in given.items() for row in read_manifest(path)]
    total = len(found)
    splits: dict[str, list[Utterance]] = {}
    dropped = []
    for split in given:
        rows, faulty = validate_utterances([row for name, row in found if name == split], stretches=True)
        splits[split] = [replace(row, lang=lang) for row in rows] if lang else rows
        dropped += faulty
    report_dropped(dropped, path=output / "dropped.tsv", total=total)
    notes: list[str] = []
    if not dev and splits["train"]:
        divided = split_utterances(splits["train"], dev=share, test=0.0, seed=seed)
        splits, notes = divided.utterances, divided.notes
    return Prepared({split: write_split(output, split, rows) for split, rows in splits.items()}, notes)
