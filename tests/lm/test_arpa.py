from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from asr_lstm.errors import DataError
from asr_lstm.lm import arpa_source
from asr_lstm.lm.arpa import read_arpa, write_arpa
from asr_lstm.lm.kneser_ney import train_ngram
from asr_lstm.lm.ngram import NgramModel

GOOD = r"""
\data\
ngram 1=5
ngram 2=3
ngram 3=1

\1-grams:
-1	<unk>
-99	<s>	-0.5
-1	</s>
-0.5	a	-0.25
-0.7	b

\2-grams:
-0.1	<s> a	-0.2
-0.3	a b
-0.4	b </s>

\3-grams:
-0.05	<s> a b

\end\
"""


def same(one: NgramModel, other: NgramModel) -> bool:
    arrays = zip(one.trie, other.trie, strict=True)
    return one.words == other.words and all(np.array_equal(mine, its) for mine, its in arrays)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_model_comes_back_as_it_was_written(
    tmp_path: Path, name: str, order: int, ngram_assets: Path
) -> None:
    lines = (ngram_assets / "text.txt").read_text(encoding="utf-8").splitlines()
    model = train_ngram(
        [*lines, "été 日本 \u00a0 naïve"], order=order, prune=(0,) * min(order, 3) + (1,) * (order > 3)
    )
    write_arpa(tmp_path / name, model)
    assert same(read_arpa(tmp_path / name), model)
    write_arpa(tmp_path / f"again-{name}", model)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


def test_kenlm_reads_what_is_written(tmp_path: Path, ngram_assets: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    model = read_arpa(ngram_assets / "gaps.arpa")
    write_arpa(tmp_path / "model.arpa", model)
    peer = kenlm.Model(str(tmp_path / "model.arpa"))
    assert peer.score("a b c z a") == pytest.approx(
        model.log_prob(["a", "b", "c", "z", "a"]) / np.log(10), abs=1e-4
    )


@pytest.mark.parametrize("block", [1, 50, 1000])
def test_blocks_may_end_anywhere(block: int, ngram_assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_arpa(ngram_assets / "pruned.arpa" if block > 1 else ngram_assets / "gaps.arpa")
    monkeypatch.setattr(arpa_source, "_BLOCK", block)
    assert same(
        read_arpa(ngram_assets / "pruned.arpa" if block > 1 else ngram_assets / "gaps.arpa"), expected
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("-0.1\t", "-1e-1\t"),
        ("-0.1\t", "-.1E+0 "),
        ("<s> a b", "<s>  a\tb"),
        ("-99", "-99.000000000000000000000000000000"),
        ("\\data\\", "made by hand\n\n\\data\\"),
        ("\\data\\", "\ufeff\\data\\"),
        ("<unk>", "<UNK>"),
        ("1=5", " 1= 5"),
        ("\\end\\\n", "\\end\\"),
        ("\\end\\\n", "\\end\\\n\n"),
    ],
)
def test_variants_in_use_are_read(tmp_path: Path, old: str, new: str) -> None:
    expected = read_arpa(write(tmp_path / "good.arpa", GOOD))
    assert same(read_arpa(write(tmp_path / "variant.arpa", GOOD.replace(old, new))), expected)


def test_the_unknown_word_may_stand_in_ngrams(tmp_path: Path) -> None:
    for spelling in ("<unk>", "<UNK>"):
        text = GOOD.replace("a b\n-0.4", f"a {spelling}\n-0.4").replace("<s> a b", f"<s> a {spelling}")
        model = read_arpa(write(tmp_path / "model.arpa", text))
        assert model.ngram(["<s>", "a", "<unk>"]) == pytest.approx((-0.05, 0))
        assert model.log_prob(["a", "zebra"]) / np.log(10) == pytest.approx(-0.1 - 0.05 - 1, abs=1e-5)


def test_without_an_unknown_word_it_is_as_unlikely_as_in_kenlm(tmp_path: Path) -> None:
    text = GOOD.replace("-1\t<unk>\n", "").replace("1=5", "1=4")
    assert read_arpa(write(tmp_path / "model.arpa", text)).ngram(["<unk>"]) == (-100, 0)


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("-0.3\ta b", "-0.3\ta", 16, "expected PROBABILITY, 2 word"),
        ("-0.3\ta b", "-0.3\ta b -1 -1", 16, "expected PROBABILITY, 2 word"),
        ("-0.3\ta b", "zero\ta b", 16, "no number"),
        ("-0.3\ta b", "-0.3\ta b\t-x", 16, "no number"),
        ("-0.3\ta b", "-\ta b", 16, "no number"),
        ("-0.3\ta b", "-1e\ta b", 16, "no number"),
        ("-0.3\ta b", "-1e99\ta b", 16, "no number"),
        ("-0.3\ta b", "nan\ta b", 16, "no number"),
        ("-0.3\ta b", "0.3\ta b", 16, "above 0"),
        ("-0.3\ta b", "-0.3\ta bee", 16, "not among the 1-grams: `-0.3 a bee`"),
        ("<s> a b", "b a b", 20, "is no n-gram of its own"),
        ("-0.4\tb </s>\n", "", 17, "promises 3 2-grams, here end only 2"),
        ("-0.4\tb </s>\n", "-0.4\tb </s>\n-1\tb b\n", 18, "promises fewer 2-grams"),
        ("-0.7\tb\n", "", 12, "promises 5 1-grams, here end only 4"),
        ("-0.7\tb", "-0.7\ta", 12, "'a' stands there twice"),
        ("-0.7\tb", "-0.7", 12, "expected PROBABILITY, 1 word"),
        ("-0.7\tb", "-x\tb", 12, "no number"),
        ("-0.7\tb", "0.7\tb", 12, "above 0"),
        ("-1\t</s>", "-1\tc", 12, "lack </s>"),
        ("2=3", "2=x", 4, "expected `ngram 2=COUNT`"),
        ("ngram 2=3\n", "", 4, "expected `ngram 2=COUNT`"),
        ("ngram 1=5\nngram 2=3\nngram 3=1\n", "", 3, "promises no n-grams"),
        ("ngram 1=5", "ngram 0=5", 3, "expected `ngram 1=COUNT`"),
        ("2=3", "2=3000000000", 6, "more than the file"),
        ("\\3-grams:", "\\4-grams:", 19, r"expected `\\3-grams:`"),
        ("\\end\\\n", "", 21, "cut short"),
        ("-0.05\t<s> a b\n\n\\end\\\n", "", 19, "cut short"),
        ("-0.05\t<s> a b\n\n\\end\\\n", "-0.05\t<s>", 19, "cut short"),
    ],
)
def test_faults_are_told_with_their_line(tmp_path: Path, old: str, new: str, line: int, problem: str) -> None:
    assert old in GOOD
    path = write(tmp_path / "model.arpa", GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=f"^{path}:{line}: .*{problem}") as error:
        read_arpa(path)
    assert "\n" not in str(error.value)


def test_an_ngram_that_stands_there_twice_is_told(tmp_path: Path) -> None:
    text = GOOD.replace("-0.4\tb </s>", "-0.4\ta b")
    with pytest.raises(DataError, match=r"model.arpa: the 2-gram 'a b' stands there twice"):
        read_arpa(write(tmp_path / "model.arpa", text))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no line"),
        (b"hello\n" * 2000, "no line"),
        ("\ufeff".join(GOOD).encode("utf-16"), "no line"),
        (GOOD.replace("\tb", "\t\u00e9").encode("latin-1"), r":12: .*not UTF-8"),
        (gzip.compress(GOOD.encode())[:-20], "cut short or damaged"),
        (gzip.compress(GOOD.encode())[:40] + b"x" * 40, "cut short or damaged"),
    ],
)
def test_what_is_no_arpa_file_is_told(tmp_path: Path, content: bytes, problem: str) -> None:
    path = write(tmp_path / "model.arpa", content)
    with pytest.raises(DataError, match=f"^{path}.*{problem}"):
        read_arpa(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.arpa", tmp_path):
        with pytest.raises(DataError, match=f"^{path}: cannot read"):
            read_arpa(path)


def test_every_cut_is_found(tmp_path: Path) -> None:
    """A file that was cut anywhere is refused, whether plain or gz."""
    whole = GOOD.encode().rstrip(b"\n")
    for content in (whole, gzip.compress(whole)):
        for length in range(0, len(content) - 1, 3):
            with pytest.raises(DataError):
                read_arpa(write(tmp_path / "cut.arpa", content[:length]))
