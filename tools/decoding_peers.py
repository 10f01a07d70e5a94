"""Other people's CTC decoders, timed on a job of `tools/bench_decoding.py`: `decoding_peers.py NAME FOLDER`.

It needs numpy and the peer alone, and none of this project: pyctcdecode asks for a numpy that is older than ours, so
that peers may live in an environment of their own. Prints a JSON object: `seconds` of each round and the `texts`.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Job = dict[str, Any]
Decode = Callable[[Any], str]


def flashlight(job: Job) -> Decode:
    """flashlight-text's lexicon decoder with kenlm, which sums over alignments as ours does."""
    decoder = importlib.import_module("flashlight.lib.text.decoder")
    kenlm = importlib.import_module("flashlight.lib.text.decoder.kenlm")
    dictionary = importlib.import_module("flashlight.lib.text.dictionary")
    numbers = {symbol: number for number, symbol in enumerate(job["symbols"], start=1)}
    words = dictionary.Dictionary()
    for word in [*job["lexicon"], "<unk>"]:
        words.add_entry(word)
    words.set_default_index(words.get_index("<unk>"))
    model = kenlm.KenLM(job["lm"], words)
    space = numbers[" "]
    trie = decoder.Trie(len(numbers) + 1, space)
    start = model.start(False)
    for word in job["lexicon"]:
        index = words.get_index(word)
        _, score = model.score(start, index)
        trie.insert([*(numbers[letter] for letter in word), space], index, score)
    trie.smear(decoder.SmearingMode.MAX)
    options = decoder.LexiconDecoderOptions(
        beam_size=job["beam"],
        beam_size_token=min(job["units_tried"], len(numbers) + 1),
        beam_threshold=job["score_margin"],
        lm_weight=job["alpha"] * math.log(10),
        word_score=job["beta"],
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )
    search = decoder.LexiconDecoder(options, trie, model, space, 0, words.get_index("<unk>"), [], False)

    def decode(log_probs: Any) -> str:
        best = search.decode(log_probs.ctypes.data, len(log_probs), log_probs.shape[1])[0]
        return " ".join(words.get_entry(index) for index in best.words if index >= 0)

    return decode


def pyctcdecode(job: Job) -> Decode:
    """pyctcdecode with kenlm; the words of the lexicon are its unigrams, others cost."""
    build = importlib.import_module("pyctcdecode").build_ctcdecoder
    search = build(
        ["", *job["symbols"]],
        job["lm"],
        unigrams=job["lexicon"],
        alpha=job["alpha"],
        beta=job["beta"],
    )
    return lambda log_probs: str(search.decode(log_probs, beam_width=job["beam"]))


PEERS: dict[str, Callable[[Job], Decode]] = {"flashlight-text": flashlight, "pyctcdecode": pyctcdecode}


def main(arguments: Sequence[str]) -> int:
    """Time one peer; the seconds are the processor's, which a busy machine stretches least."""
    name, folder = arguments
    job = json.loads((Path(folder) / "job.json").read_text(encoding="utf-8"))
    with np.load(Path(folder) / "log_probs.npz") as file:
        utterances = [np.ascontiguousarray(file[key]) for key in file.files]
    try:
        decode = PEERS[name](job)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return 0
    decode(utterances[0])
    seconds = []
    for _ in range(job["rounds"]):
        start = time.process_time()
        texts = [decode(log_probs) for log_probs in utterances]
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": seconds, "texts": texts}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
