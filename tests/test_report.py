from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from asr_lstm.errors import DataError
from asr_lstm.report import (
    Results,
    SplitResult,
    read_results,
    results_markdown,
    results_table,
    worst_alignments,
    write_results,
)
from asr_lstm.scoring import score

GREEDY = SplitResult(
    wer=0.0731, wer_low=0.065, wer_high=0.08104, cer=0.0249, cer_low=0.02, cer_high=0.0301,
    words=5123, utterances=400, rtf=0.02134,
)  # fmt: skip
BEAM = replace(GREEDY, wer=0.06, wer_low=0.0512, wer_high=0.07, rtf=None)
RESULTS = Results(
    recipe="librispeech",
    seed=3,
    command="make recipe-librispeech",
    device="A Processor",
    cores=2,
    parameters=1234567,
    train_seconds=702.0,
    train_hours_of_audio=5.126,
    splits={"dev": {"greedy": GREEDY}, "test-other": {"greedy": GREEDY, "beam+ngram": BEAM}},
    metrics={"speed": {"ratio": 6.5}},
    notes=["The training data is [synthetic] speech."],
)


def printed(renderable: object, *, width: int = 80, colour: bool = False) -> str:
    system = "standard" if colour else "auto"
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, color_system=system)
    console.print(renderable, end="")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_results_come_back_from_their_file(tmp_path) -> None:
    write_results(tmp_path / "exp" / "results.json", RESULTS)
    assert read_results(tmp_path / "exp" / "results.json") == RESULTS


def test_the_file_has_the_fields_of_the_contract(tmp_path) -> None:
    write_results(tmp_path / "results.json", RESULTS)
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(data) == [
        "recipe", "seed", "command", "device", "cores", "parameters", "train_seconds", "train_hours_of_audio",
        "splits", "metrics", "notes",
    ]  # fmt: skip
    assert data["splits"]["test-other"]["greedy"] == {
        "wer": 0.0731, "wer_low": 0.065, "wer_high": 0.08104,
        "cer": 0.0249, "cer_low": 0.02, "cer_high": 0.0301,
        "words": 5123, "utterances": 400, "rtf": 0.02134,
    }  # fmt: skip


def test_a_split_takes_its_figures_from_the_scores() -> None:
    scores = score(["a b", "c d"], ["a x", "c d"])
    row = SplitResult.from_scores(scores, rtf=0.5)
    assert (row.wer, row.wer_high, row.cer) == (scores.wer, scores.wer_high, scores.cer)
    assert (row.words, row.utterances, row.rtf) == (4, 2, 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_figures_that_json_lacks_are_refused_and_leave_no_file(value: object, tmp_path) -> None:
    with pytest.raises(ValueError, match="results: cannot be written"):
        write_results(tmp_path / "results.json", replace(RESULTS, metrics={"loss": value}))
    assert not list(tmp_path.iterdir())


def test_fields_of_later_versions_are_passed_over_and_notes_may_lack(tmp_path) -> None:
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["later"] = data["splits"]["dev"]["greedy"]["later"] = 1
    del data["notes"]
    path.write_text(json.dumps(data))
    assert read_results(path) == replace(RESULTS, notes=[])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot read the results"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[]", "not a file of results"),
        (b'{"splits": {}}', "not a file of results"),
        (b'{"recipe": "x"}', "not a file of results"),
        (b'{"splits": {"test": {"greedy": {"wer": 0.1}}}}', "not a file of results"),
        (b'{"splits": {"test": {"greedy": {"wer": null}}}}', "wer is no number"),
    ],
)
def test_a_broken_file_is_named_in_one_line(content: bytes | None, complaint: str, tmp_path) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


TABLE = """\
                              librispeech (seed 3)

 split      decoder               WER %            CER % words utts   RTF
 ────────────────────────────────────────────────────────────────────────
 dev        greedy     7.31 (6.50-8.10) 2.49 (2.00-3.01)  5123  400 0.021
 test-other greedy     7.31 (6.50-8.10) 2.49 (2.00-3.01)  5123  400 0.021
 test-other beam+ngram 6.00 (5.12-7.00) 2.49 (2.00-3.01)  5123  400     -

The training data is [synthetic] speech.
"""


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def test_the_table_on_a_console() -> None:
    found = lines(printed(results_table(RESULTS)))
    assert found[0].strip() == "librispeech (seed 3)"
    assert found[1:] == lines(TABLE)[1:]


def test_the_widest_row_fits_80_columns_and_no_figure_is_ever_cut() -> None:
    bad = replace(GREEDY, wer=0.9731, wer_low=0.9512, wer_high=0.9912, cer=0.5, cer_low=0.4512, cer_high=0.55)
    wide = replace(RESULTS, splits={"test-other": {"beam+ngram": replace(bad, words=52343, utterances=2939)}})
    row = " test-other beam+ngram 97.31 (95.12-99.12) 50.00 (45.12-55.00) 52343 2939 0.021"
    assert row in lines(printed(results_table(wide), width=80))
    assert "…" not in printed(results_table(wide), width=60)


MARKDOWN = """\
| split | decoder | WER % | CER % | words | utts | RTF |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| dev | greedy | 7.31 (6.50-8.10) | 2.49 (2.00-3.01) | 5123 | 400 | 0.021 |
| test-other | greedy | 7.31 (6.50-8.10) | 2.49 (2.00-3.01) | 5123 | 400 | 0.021 |
| test-other | beam+ngram | 6.00 (5.12-7.00) | 2.49 (2.00-3.01) | 5123 | 400 | - |

Rates in per cent, with 95 % intervals.
Recipe librispeech, seed 3, 1,234,567 parameters; trained for 11.7 minutes on 5.13 hours of audio; \
A Processor, 2 cores; `make recipe-librispeech`.

The training data is [synthetic] speech.
"""


def test_the_table_of_a_model_card() -> None:
    assert results_markdown(RESULTS) == MARKDOWN


def test_a_model_card_without_training() -> None:
    untrained = replace(RESULTS, train_seconds=None, train_hours_of_audio=None, cores=1, notes=[])
    expected = (
        "Recipe librispeech, seed 3, 1,234,567 parameters; A Processor, 1 core; `make recipe-librispeech`.\n"
    )
    assert results_markdown(untrained).endswith(expected)


REFERENCES = ["all right here", "the cat sat on a mat", "one two", ""]
HYPOTHESES = ["all right here", "the bat sat a mat now", "one too", "noise"]
IDS = ["a-1", "b-2", "c-3", "d-4"]
WORST = """\
b-2: 6 words, 1 substituted, 1 missed, 1 inserted
REF: the cat sat on a mat ***
HYP: the bat sat ** a mat now
         S       D        I

c-3: 2 words, 1 substituted, 0 missed, 0 inserted
REF: one two
HYP: one too
         S

d-4: 0 words, 0 substituted, 0 missed, 1 inserted
REF: *****
HYP: noise
     I

"""


def test_the_worst_come_first_word_under_word() -> None:
    assert printed(worst_alignments(REFERENCES, HYPOTHESES, IDS)) == WORST


def test_only_as_many_as_asked_for_and_none_without_errors() -> None:
    assert worst_alignments(REFERENCES, HYPOTHESES, IDS, count=1).plain == WORST.split("c-3")[0]
    assert worst_alignments(["a"], ["a"], ["x"]).plain == "no word errors\n"


def test_errors_are_coloured_on_a_terminal_only() -> None:
    shown = worst_alignments(REFERENCES, HYPOTHESES, IDS)
    coloured = printed(shown, colour=True)
    assert "\x1b[1;33mcat\x1b[0m" in coloured
    assert "\x1b[1;31m**\x1b[0m" in coloured
    assert Text.from_ansi(coloured).plain.rstrip() == WORST.rstrip()
    assert "\x1b" not in printed(shown)


def test_long_utterances_are_folded_with_their_columns_together() -> None:
    reference = [f"word{index}" for index in range(30)]
    hypothesis = [word.upper() if index % 3 else word for index, word in enumerate(reference)]
    shown = worst_alignments([" ".join(reference)], [" ".join(hypothesis)], ["x"], width=40).plain
    assert max(map(len, shown.splitlines()[1:])) <= 40
    rows = {
        head: [line[5:] for line in shown.splitlines() if line.startswith(head)] for head in ("REF:", "HYP:")
    }
    assert " ".join(" ".join(rows["REF:"]).split()) == " ".join(reference)
    assert " ".join(" ".join(rows["HYP:"]).split()) == " ".join(hypothesis)
    for said, heard in zip(rows["REF:"], rows["HYP:"], strict=True):
        assert said.lower() == heard.lower()
    assert max(map(len, worst_alignments(["a" * 90], ["b"], ["x"], width=40).plain.splitlines())) == 95


def test_wide_and_combining_characters_keep_their_columns() -> None:
    shown = worst_alignments(["日本 語 です", "नमस्ते कैसे हैं"], ["日 語 だ", "नमसते कैसे है"], ["ja", "hi"]).plain
    blocks = [block.splitlines() for block in shown.split("\n\n") if block]
    for _, reference, hypothesis, _ in blocks:
        middle = "語" if "語" in reference else "कैसे"
        at = [cell_len(line[: line.index(middle)]) for line in (reference, hypothesis)]
        assert at[0] == at[1]


@pytest.mark.parametrize(
    ("references", "hypotheses", "ids", "complaint"),
    [
        (["a"], ["a"], [], "ids: 0 of them for 1 references"),
        (["a"], [], ["x"], "hypotheses: 0 of them for 1 references"),
        ([], [], [], "references: there is nothing"),
    ],
)
def test_arguments_that_do_not_fit(references, hypotheses, ids, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        worst_alignments(references, hypotheses, ids)
