"""LibriSpeech where it is at hand, and a synthetic stand-in for its training data where it is not."""

from __future__ import annotations

import logging
from pathlib import Path

from asr_lstm.corpora import Prepared
from asr_lstm.corpora.librispeech import download_librispeech, find_subsets, prepare_librispeech
from asr_lstm.corpora.synthetic import MARKER, prepare_synthetic
from asr_lstm.errors import DataError

log = logging.getLogger(__name__)

# Mini LibriSpeech: 5 h to learn from and 2 h to choose by, 460 MB.
MINI_SUBSETS = ("train-clean-5", "dev-clean-2")

SYNTHETIC_NOTE = (
    "SYNTHETIC training data: the model has only heard sentences of a small grammar spoken by espeak-ng. "
    "Its rates on synthetic speech say how well the pipeline learns, not how well it hears people."
)
MISMATCH_NOTE = (
    "{splits}: real recordings, recognised by a model trained on SYNTHETIC speech. Voices, rooms and all "
    "words outside the grammar are new to it, so the error rate is high. Train on recordings for a useful one: "
    "LIBRISPEECH=/path with a train-* subset, or DOWNLOAD=1."
)


def prepare_librispeech_or_standin(
    output: Path,
    *,
    source: str = "",
    download: bool = False,
    subsets: str = "",
    data: str = "data",
    hours: float = 20.0,
    speakers: int = 76,
    seed: int = 1,
) -> Prepared:
    """Write the manifests of a LibriSpeech recipe.

    `train-*` is there to train, `dev-*` to choose by, each `test-*` to be tested on by its own name. Where
    there is no `train-*`, the synthetic stand-in takes its place (and that of `dev-*`, unless that is there).

    Args:
        output: folder for the manifests.
        source: a LibriSpeech folder; "" for none.
        download: fetch the subsets first, into `data`.
        subsets: names separated by commas or spaces; "" for all that is found, or Mini LibriSpeech to download.
        data: folder for what is downloaded or made.
        hours: of synthetic training speech.
        speakers: of the stand-in, all splits together.
        seed: of the stand-in.

    Raises:
        DataError: the source is no LibriSpeech folder, or has `train-*` without `dev-*`.
        DownloadError: see `download_librispeech`.
    """
    names = subsets.replace(",", " ").split()
    if download:
        place = Path(source or data)
        place = place.parent if place.name == "LibriSpeech" else place  # the archives bring that folder along
        folder = download_librispeech(subsets=names or MINI_SUBSETS, folder=place)
        source, names = str(folder), names or list(MINI_SUBSETS)
    manifests: dict[str, Path] = {}
    if source:
        manifests = prepare_librispeech(output, source=Path(source), subsets=names or None)
    if "train" in manifests:
        if "dev" not in manifests:
            raise DataError(
                f"{source}: has train-* but no dev-* to choose by; put dev-clean or dev-clean-2 there"
            )
        return Prepared(manifests)

    if source:
        found = ", ".join(find_subsets(source))
        log.warning(
            "%s holds no train-* (only %s): training on the SYNTHETIC stand-in instead", source, found
        )
    else:
        log.warning(
            "no LibriSpeech given: using the SYNTHETIC stand-in; for the real corpus say "
            "LIBRISPEECH=/path/to/LibriSpeech, or DOWNLOAD=1"
        )
    name = f"synthetic-{hours:g}h-{speakers}speakers-seed{seed}"
    corpus = prepare_synthetic(Path(data) / name, hours=hours, speakers=speakers, seed=seed)
    synthetic = prepare_librispeech(output / "synthetic", source=corpus)
    notes = [SYNTHETIC_NOTE]
    if manifests:
        notes.append(MISMATCH_NOTE.format(splits=", ".join(manifests)))
    if not set(manifests) - {"dev"}:
        manifests["test"] = synthetic["test-synthetic"]
    manifests = {"train": synthetic["train"], "dev": synthetic["dev"]} | manifests
    return Prepared(manifests, notes, depends=[corpus / MARKER])
