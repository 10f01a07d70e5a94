"""YESNO: 60 recordings of one man who says yes or no eight times, 8 kHz (OpenSLR 1).

https://www.openslr.org/1: made for the Kaldi project so that its scripts can be tried for nothing; the words are
Hebrew. The file's name is the transcript, 1 for yes and 0 for no:

    waves_yesno/0_1_0_0_1_0_1_0.wav

Some begin with half a second of the microphone being switched on, digital silence, or the rest of a word that is not
in the transcript: all are used from shortly before their first word on (`offset` in the manifests).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_lstm.audio import audio_info, read_audio
from asr_lstm.corpora import Prepared
from asr_lstm.corpora.published import Archive, download_archive, find_corpus, keep_sound, write_split
from asr_lstm.errors import DataError
from asr_lstm.manifest import Utterance

# OpenSLR itself gives no checksum here. This one, of 4,703,754 bytes, is that of TensorFlow Datasets
# (audio/yesno/checksums.tsv) and of torchaudio (datasets/yesno.py, from 0.9 to 2.11).
ARCHIVE = Archive(
    name="YESNO",
    url="https://www.openslr.org/resources/1/waves_yesno.tar.gz",
    folder="waves_yesno",
    files={"*.wav": 60},
    megabytes=5,
    sha256="c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
)

RECORDINGS = 60
# By sorted name: the first 30 are to train, the last 30 to test; of the former the last 5 are not trained on, but
# choose the best epoch.
DEV = slice(25, 30)
TEST = slice(30, 60)
DEV_NOTE = "dev: the last 5 of the 30 training recordings by name, not trained on; one speaker in all splits."

_NAME = re.compile(r"[01](_[01]){7}")
_WORDS = {"0": "no", "1": "yes"}
# Of `find_words`: a tenth of each recording at least is silence, and words stand 18 dB above that.
_HOP_SECONDS = 0.01
_FLOOR = 1e-8  # below the noise of any recording, above digital silence
_QUIET_SHARE = 0.1
_LOUDER_DB = 18.0
_PAUSE_HOPS = 10
_WORD_HOPS = 9  # words last 20 and more
_MARGIN_SECONDS = 0.05


def download_yesno(folder: str | Path) -> Path:
    """Fetch the corpus into `folder`; errors as in `asr_lstm.corpora.published.download_archive`."""
    return download_archive(ARCHIVE, folder)


def read_yesno(folder: str | Path) -> list[Utterance]:
    """All recordings in the order of their names, unchecked, with duration 0 for not yet known.

    Args:
        folder: with the recordings, or the one above `waves_yesno`.

    Raises:
        DataError: not the 60 recordings.
    """
    folder = Path(folder)
    if (folder / ARCHIVE.folder).is_dir():
        folder = folder / ARCHIVE.folder
    # The corpus is WAV; a copy may be in any format.
    paths = sorted(path for path in folder.iterdir() if path.is_file() and _NAME.fullmatch(path.stem))
    if len(paths) != RECORDINGS:
        raise DataError(
            f"{folder}: holds {len(paths)} of the {RECORDINGS} recordings of YESNO, named as 0_1_0_0_1_0_1_0.wav; "
            "give the folder waves_yesno, or say DOWNLOAD=1"
        )
    return [
        Utterance(
            path, " ".join(_WORDS[digit] for digit in path.stem.split("_")), duration=0.0, speaker="yesno"
        )
        for path in paths
    ]


def cut_recording(utterance: Utterance) -> list[Utterance]:
    """A recording from its first word on and, if all its words are found, also from each later one on.

    The second of these are for training. All that is trained on begins with "no", all that is tested on but one
    recording with "yes": from whole recordings alone a network learns that "no" comes first.
    """
    rate = audio_info(utterance.path).rate
    starts = find_words(read_audio(utterance.path, rate=rate), rate=rate) or [0.0]
    words = utterance.text.split()
    if len(starts) != len(words):
        starts = starts[:1]
    parts = []
    for first, start in enumerate(starts):
        offset = max(0.0, start - _MARGIN_SECONDS)
        parts.append(
            replace(
                utterance,
                id=f"{utterance.id}-from-{first + 1}" if first else utterance.id,
                text=" ".join(words[first:]),
                offset=offset,
                duration=utterance.duration - offset,
            )
        )
    return parts


def find_words(samples: NDArray[np.float32], *, rate: int) -> list[float]:
    """Where in a recording (samples,) what is as long as a word stands out of its silence, in seconds."""
    hop = round(rate * _HOP_SECONDS)
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    levels = 10 * np.log10((frames**2).mean(axis=1) + _FLOOR)
    levels = np.convolve(levels, np.ones(3) / 3, "same")
    loud = np.flatnonzero(levels > np.quantile(levels, _QUIET_SHARE) + _LOUDER_DB)
    pauses = np.flatnonzero(np.diff(loud) > _PAUSE_HOPS)
    bursts = np.split(loud, pauses + 1) if len(loud) else []
    return [float(burst[0]) * _HOP_SECONDS for burst in bursts if burst[-1] - burst[0] >= _WORD_HOPS]


def prepare_yesno(
    output: str | Path, *, source: str | Path = "", download: bool = False, data: str | Path = "data"
) -> Prepared:
    """Write the manifests `train`, `dev` and `test` (see `DEV` and `TEST`).

    Args:
        output: folder for the manifests.
        source: the folder waves_yesno or the one above it; "" for none.
        download: fetch the corpus first, into `source` or `data`.
        data: folder for what is downloaded.

    Raises:
        DataError: no corpus was given, or not all of it is there.
        DownloadError: see `download_yesno`.
    """
    candidates = read_yesno(find_corpus(ARCHIVE, source=source, download=download, data=data))
    dev, test = ({item.id for item in candidates[part]} for part in (DEV, TEST))
    sound = [cut_recording(item) for item in keep_sound(candidates, output=output)]
    splits = {
        "train": [part for whole, *parts in sound if whole.id not in dev | test for part in (whole, *parts)],
        "dev": [whole for whole, *_ in sound if whole.id in dev],
        "test": [whole for whole, *_ in sound if whole.id in test],
    }
    return Prepared({split: write_split(output, split, rows) for split, rows in splits.items()}, [DEV_NOTE])
