from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr_lstm.errors import DataError
from asr_lstm.lm import perplexity as module
from asr_lstm.lm.arpa import read_arpa
from asr_lstm.lm.perplexity import perplexity


@pytest.mark.parametrize("chunk", [3, 1 << 18])
@pytest.mark.parametrize(("arpa", "text"), [("pruned.arpa", "heldout.txt"), ("gaps.arpa", "gaps.txt")])
def test_it_is_what_kenlms_query_prints(
    arpa: str,
    text: str,
    chunk: int,
    ngram_assets: Path,
    kenlm_says: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    lines = (ngram_assets / text).read_text(encoding="utf-8").splitlines()
    found = perplexity(read_arpa(ngram_assets / arpa), [*lines, "", " \n"])
    expected = kenlm_says["scores"][arpa]
    assert found.including_unknown == pytest.approx(expected["including_unknown"], rel=1e-4)
    assert found.excluding_unknown == pytest.approx(expected["excluding_unknown"], rel=1e-4)
    assert (found.unknown, found.words + found.sentences) == (expected["unknown"], expected["tokens"])
    assert found.sentences == len(lines)


def test_a_text_without_words_is_refused(ngram_assets: Path) -> None:
    with pytest.raises(DataError, match="holds no words"):
        perplexity(read_arpa(ngram_assets / "gaps.arpa"), ["", " "])
