"""The page as a whole, read back by parsers that did not write it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element

import jiwer
import numpy as np
import pytest
import soundfile
import torch
import yaml

from asr_lstm.audio import load_utterance
from asr_lstm.bundle import Bundle, load_bundle, save_bundle
from asr_lstm.errors import DataError
from asr_lstm.features import FeatureConfig
from asr_lstm.manifest import Utterance, read_manifest, write_manifest
from asr_lstm.model import EncoderConfig, Recogniser
from asr_lstm.report import read_results
from asr_lstm.report_page import report_command, write_report_page
from asr_lstm.units import CharacterUnits

VOID = {"meta", "br", "hr", "img", "input", "link"}
EVIL = '<script>alert("1")</script> & <img src=x onerror=alert(2)>'


class Tags(HTMLParser):
    """What a browser would see: tags that match, their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.names: Counter[str] = Counter()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(folder: Path, **options: str) -> tuple[Tags, Element]:
    text = write_report_page(folder, **options).read_text(encoding="utf-8")
    assert len(text) < 5_000_000
    return Tags(text), ElementTree.fromstring(text)


def part(root: Element, name: str) -> Element:
    found = root.find(f".//section[@id='{name}']")
    assert found is not None
    return found


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def rows(table: Element) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_the_page_says_what_was_measured(experiment: Path) -> None:
    os.utime(experiment / "results.json", (1_700_000_000, 1_700_000_000))
    tags, root = written(experiment)
    result = read_results(experiment / "results.json").splits["test"]["greedy"]
    said = words(part(root, "measured"))
    for expected in (
        f"{100 * result.wer:.1f} %word error rate on test",
        f"{100 * result.wer_low:.2f} to {100 * result.wer_high:.2f}",
        "asr-lstm recipe tones",
        "a processor",
        "1.5 minutes",
        "best dev WER12.50 %",
        "2023-11-14 22:13 UTC",
    ):
        assert expected in said
    notices = [words(found) for found in root.iter("p") if found.get("class") == "notice"]
    assert notices == ["SYNTHETIC training data: tones"]
    assert tags.names["section"] == 7


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(experiment: Path) -> None:
    tags, _ = written(experiment)
    for _, name, value in tags.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert value.startswith(("data:", "#"))
        assert not name.startswith("on")
    assert not {"script", "iframe", "object", "embed", "link", "base"} & set(tags.names)
    text = (experiment / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    ids = [value for _, name, value in tags.attributes if name == "id"]
    links = [value[1:] for tag, name, value in tags.attributes if (tag, name) == ("a", "href")]
    assert sorted(links) == sorted(ids)


def test_confusions_are_those_that_jiwer_counts(experiment: Path) -> None:
    _, root = written(experiment)
    references = [utterance.text for utterance in read_manifest(experiment / "manifests" / "test.jsonl")]
    lines = (experiment / "decoded" / "test.greedy.jsonl").read_text().splitlines()
    output = jiwer.process_words(references, [json.loads(line)["text"] for line in lines])
    pairs: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for chunks, said, heard in zip(output.alignments, output.references, output.hypotheses, strict=True):
        for chunk in chunks:
            left = said[chunk.ref_start_idx : chunk.ref_end_idx]
            right = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                pairs.update(zip(left, right, strict=True))
            deleted.update(left if chunk.type == "delete" else [])
            inserted.update(right if chunk.type == "insert" else [])
    assert pairs  # or nothing is tested
    assert deleted or inserted
    section = part(root, "words")
    total = sum(len(said) for said in output.references)
    assert f"{output.substitutions + output.deletions + output.insertions} errors in {total} words" in words(
        section
    )
    assert f"{output.deletions} missed" in words(section)
    tables = {str(box.findtext("h3")): rows(box) for box in section.iter("div") if box.find("h3") is not None}
    shown = {(said, heard): int(times) for said, heard, times, _ in tables["Taken for another"][1:]}
    assert shown.items() <= pairs.items()
    assert sum(shown.values()) == sum(count for _, count in pairs.most_common(15))
    for title, counts in (("Missed", deleted), ("Inserted", inserted)):
        listed = {word: int(times) for word, times, _ in tables.get(title, [[]])[1:]}
        assert listed.items() <= counts.items()
        assert sum(listed.values()) == sum(count for _, count in counts.most_common(15))
    costs = [float(points) for *_, points in tables["Taken for another"][1:]]
    assert costs == pytest.approx([100 * times / total for times in shown.values()], abs=0.006)


def test_utterances_are_shown_with_their_words_and_the_sound_that_the_model_hears(experiment: Path) -> None:
    _, root = written(experiment)
    by_id = {utterance.id: utterance for utterance in read_manifest(experiment / "manifests" / "test.jsonl")}
    examples = list(part(root, "utterances").iter("article"))
    assert len(examples) == 12
    shown = set()
    for example in examples:
        utterance = by_id[str(example.findtext("h4/bdi"))]
        shown.add(utterance.id)
        columns = example.findall("div[@class='alignment']/span")
        said = [str(column[0].text) for column in columns]
        assert " ".join(word for word in said if word != "***") == utterance.text
        wrong = [column for column in columns if column.get("class") != "word equal"]
        assert all(column[2].text in ("S", "D", "I") for column in wrong)  # marked, not only coloured
        assert f"{len(wrong)} error" in words(example)
        audio = example.find("audio")
        assert audio is not None
        kind, _, data = str(audio.get("src")).partition(",")
        assert kind == "data:audio/flac;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        heard = load_utterance(utterance, rate=8000)
        assert rate == 8000
        assert samples.shape == heard.shape
        assert np.abs(samples - heard).max() <= 2**-15
        assert example.findall("div/svg/image")
    assert len(shown) == 12


def test_rates_by_speaker_length_and_level(experiment: Path) -> None:
    _, root = written(experiment)
    utterances = read_manifest(experiment / "manifests" / "test.jsonl")
    lines = (experiment / "decoded" / "test.greedy.jsonl").read_text().splitlines()
    heard = [json.loads(line)["text"] for line in lines]
    rates = {}
    for speaker in {utterance.speaker for utterance in utterances}:
        chosen = [index for index, utterance in enumerate(utterances) if utterance.speaker == speaker]
        rates[speaker] = jiwer.wer([utterances[i].text for i in chosen], [heard[i] for i in chosen])
    figures = {str(figure.findtext("figcaption")): figure for figure in part(root, "errors").iter("figure")}
    bars = [str(tip.text) for tip in figures["WER by speaker"].iter("title")]
    assert [bar.partition(":")[0] for bar in bars] == sorted(rates, key=lambda name: (-rates[name], name))
    for bar in bars:
        name, _, shown = bar.partition(": ")
        assert float(shown.partition(" %")[0]) == pytest.approx(100 * rates[name], rel=0.006)
        assert "interval" in bar
    for title in figures:
        counts = [int(str(tip.text).split(" · ")[1].split()[0]) for tip in figures[title].iter("title")]
        assert sum(counts) == sum(len(utterance.text.split()) for utterance in utterances)
    assert len(figures) == 4


def test_training_curves_are_of_the_run_that_made_the_model(experiment: Path) -> None:
    _, root = written(experiment)
    section = part(root, "training")
    tips = [str(tip.text) for tip in section.iter("title")]
    assert tips == [
        "training: 0.05 at 1,000",
        "dev: 1 at 1,000",
        "WER: 25 at 1,000",
        "CER: 6.25 at 1,000",
        "lr-AdamW: 0.01 at 1,000",
    ]
    assert "fewest errors: WER 25.0 % after update 1,000; 2 epochs in all" in words(section)


def test_what_was_dropped_is_counted_by_reason(experiment: Path) -> None:
    _, root = written(experiment)
    section = part(root, "dropped")
    assert rows(section)[1:] == [
        ["no text", "2", "d1", "its transcript is empty"],
        ["audio missing", "1", "d3", "no such file"],
        ["no reason given", "1", "d4", ""],
    ]
    assert "4 listed in manifests/dropped.tsv" in words(section)
    assert "Nothing was dropped: logs/dropped.tsv" in words(section)


def test_settings_are_there_in_full(experiment: Path) -> None:
    (experiment / "recipe.yaml").write_text("name: tones # <b>\n")
    _, root = written(experiment)
    shown = [str(box.text) for box in part(root, "settings").iter("pre")]
    assert shown == ["name: tones # <b>\n", (experiment / "model" / "config.yaml").read_text()]


def test_nothing_that_a_corpus_says_becomes_markup(experiment: Path, remake: Callable[..., None]) -> None:
    config = yaml.safe_load((experiment / "model" / "config.yaml").read_text())
    config["normaliser"] |= {"punctuation": "keep", "casing": "keep"}
    (experiment / "model" / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = experiment / "manifests" / "test.jsonl"
    utterances = read_manifest(manifest)
    utterances[3] = Utterance(
        utterances[3].path,
        f"{EVIL} {EVIL}",
        utterances[3].duration,
        speaker=EVIL,
        id=f"id {EVIL}",
        lang='"><b>',
    )
    utterances[4] = Utterance(Path("/nowhere") / "<b>.wav", "a b", 1.0, speaker="s1", id="gone")
    write_manifest(manifest, utterances)
    remake(experiment, results={"recipe": EVIL, "command": EVIL, "notes": [EVIL], "device": EVIL})
    (experiment / "logs" / "dropped.tsv").write_text(f"id\tpath\treason\n{EVIL}\t{EVIL}\t{EVIL}: {EVIL}\n")
    tags, root = written(experiment)
    assert not {"script", "img"} & set(tags.names)
    assert not any(name.startswith("on") for _, name, _ in tags.attributes)
    for name, least in (("measured", 3), ("errors", 1), ("utterances", 1), ("dropped", 3)):
        assert words(part(root, name)).count(EVIL) >= least
    assert '<script>alert("1")</script>' in [span.text for span in root.iter("span")]
    assert root.findtext("head/title") == f"Report: {EVIL}"


def test_utterances_that_failed_are_named_and_not_among_the_worst(
    experiment: Path, remake: Callable[..., None]
) -> None:
    manifest = experiment / "manifests" / "test.jsonl"
    utterances = read_manifest(manifest)
    utterances[4] = Utterance(Path("/nowhere/gone.wav"), "a " * 50, 1.0, speaker="s1")
    write_manifest(manifest, utterances)
    remake(experiment)
    _, root = written(experiment)
    assert "1 of 50 utterances could not be loaded" in words(part(root, "utterances"))
    assert "/nowhere/gone.wav: no such file" in words(part(root, "utterances"))
    assert "gone" not in [found.text for found in root.findall(".//h4/bdi")]
    assert any("1 of 50" in words(found) for found in root.iter("p") if found.get("class") == "notice")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["logs"], "No training logs"),
        (["logs", "manifests/dropped.tsv"], "No list of dropped utterances is there"),
        (["model"], "No sound and no picture: "),
        (["decoded"], "decoded/test.greedy.jsonl: cannot read the recognitions"),
        (["manifests"], "manifests/test.jsonl: cannot read the manifest"),
        (
            ["stages.json", "logs", "manifests", "model", "decoded"],
            "The utterances of test are not on disk any more",
        ),
    ],
)
def test_what_is_missing_is_said_in_a_line(experiment: Path, gone: list[str], said: str) -> None:
    for name in gone:
        path = experiment / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, root = written(experiment)
    assert said in words(root)
    assert "word error rate on test" in words(root)


def test_audio_that_is_gone_is_said_and_the_words_stay(experiment: Path) -> None:
    manifest = experiment / "manifests" / "test.jsonl"
    manifest.write_text(manifest.read_text().replace("/audio/", "/elsewhere/"))
    _, root = written(experiment)
    assert "By level of the signal: no audio could be read" in words(part(root, "errors"))
    assert words(part(root, "utterances")).count("No sound and no picture") == 12
    assert len(root.findall(".//div[@class='alignment']")) == 12


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("stages.json", b"{", "Nothing was dropped"),
        ("decoded/test.greedy.jsonl", b'{"text": 1', "test.greedy.jsonl: not a file of recognitions"),
        ("decoded/test.greedy.jsonl", b"[]\n", "test.greedy.jsonl: not a file of recognitions"),
        ("decoded/test.greedy.jsonl", b'{"text": "a"}\n', "test: 1 recognitions for 50 utterances"),
        ("decoded/test.greedy.jsonl", b"\xff\xfe", "test.greedy.jsonl: not a file of recognitions"),
        ("manifests/test.jsonl", b"\xff\xfe", "test.jsonl: not a manifest"),
        ("manifests/dropped.tsv", b"\xff\xfe", "manifests/dropped.tsv: cannot be read"),
        ("model/config.yaml", b"\xff\xfe", "The model's settings are not there"),
        ("model/model.safetensors", b"oops", "the model cannot be loaded"),
    ],
)
def test_what_is_damaged_is_said_in_a_line(experiment: Path, name: str, content: bytes, said: str) -> None:
    (experiment / name).write_bytes(content)
    _, root = written(experiment)
    assert said in words(root)
    assert "word error rate on test" in words(root)


def test_damaged_logs_stop_nothing(experiment: Path) -> None:
    for path in (experiment / "logs" / "tensorboard" / "abc").iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"\0garbage" * 100)
    _, root = written(experiment)
    assert "training: " in [str(tip.text)[:10] for tip in part(root, "training").iter("title")]


def test_results_of_other_files_are_told_apart(experiment: Path) -> None:
    manifest = experiment / "manifests" / "test.jsonl"
    manifest.write_text(manifest.read_text().replace('"text": "', '"text": "bab ', 1))
    _, root = written(experiment)
    assert "test: results.json was made from other transcripts or recognitions" in words(root)


def test_the_same_folder_gives_the_same_bytes(experiment: Path, tmp_path: Path) -> None:
    first = write_report_page(experiment).read_bytes()
    assert write_report_page(experiment).read_bytes() == first


def test_sound_and_pictures_end_where_the_page_would_grow_too_large(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr_lstm.report_page.examples.MAX_MEDIA_BYTES", 150_000)
    _, root = written(experiment)
    assert 0 < len(list(root.iter("audio"))) < 12
    assert "Left out: the page would grow too large" in words(part(root, "utterances"))
    assert len((experiment / "report.html").read_bytes()) < 350_000


def test_long_utterances_are_cut(experiment: Path, remake: Callable[..., None]) -> None:
    manifest = experiment / "manifests" / "test.jsonl"
    utterances = read_manifest(manifest)
    samples = np.concatenate([load_utterance(utterance, rate=8000) for utterance in utterances])
    soundfile.write(experiment / "long.wav", samples, 8000)
    text = " ".join(utterance.text for utterance in utterances)
    write_manifest(manifest, [Utterance(experiment / "long.wav", text, len(samples) / 8000)])
    remake(experiment)
    _, root = written(experiment)
    audio = root.find(".//article/audio")
    assert audio is not None
    sound, _ = soundfile.read(io.BytesIO(base64.b64decode(str(audio.get("src")).partition(",")[2])))
    assert len(sound) == 20 * 8000
    assert "Sound and picture are of the first 20 s." in words(part(root, "utterances"))
    assert "the manifest names no speakers" in words(part(root, "errors"))


def test_folds_are_heard_by_the_model_of_the_fold(experiment: Path) -> None:
    utterances = read_manifest(experiment / "manifests" / "test.jsonl")
    for number in (0, 1):
        fold = experiment / "folds" / str(number)
        write_manifest(fold / "manifests" / "test.jsonl", utterances[number::2])
        shutil.copytree(experiment / "model", fold / "model")
    bundle = load_bundle(experiment / "model")
    for parameter in bundle.model.head.parameters():
        parameter.data.zero_()
    save_bundle(experiment / "model", bundle)  # the kept model hears nothing: only the folds' can agree
    _, root = written(experiment)
    assert "The model on disk now reads" not in words(part(root, "utterances"))
    shutil.rmtree(experiment / "folds")
    _, root = written(experiment)
    assert "The model on disk now reads" in words(part(root, "utterances"))


FRAMES_LOADER = """
import numpy as np


def load_ink(utterance):
    random = np.random.default_rng(len(utterance.text))
    return random.normal(size=(8 * len(utterance.text) + 8, 3)).astype(np.float32)
"""


def test_inputs_that_are_not_audio_are_pictures_without_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remake: Callable[..., None]
) -> None:
    (tmp_path / "ink_loader.py").write_text(FRAMES_LOADER)
    monkeypatch.syspath_prepend(str(tmp_path))
    features, encoder = FeatureConfig(kind="frames", dims=3, stack=2), EncoderConfig(layers=1, hidden=4)
    units = CharacterUnits.from_texts(["ab c"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Recogniser(features, encoder, units=len(units))
    save_bundle(
        tmp_path / "ink" / "model", Bundle(model, units, features, encoder, loader="ink_loader.load_ink")
    )
    write_manifest(
        tmp_path / "ink" / "manifests" / "test.jsonl",
        [Utterance(Path(f"{index}.none"), "ab c"[: index + 1], 0.1 * index) for index in range(4)],
    )
    remake(tmp_path / "ink")
    _, root = written(tmp_path / "ink")
    assert not list(root.iter("audio"))
    assert len(list(root.iter("image"))) == 4
    assert "the model's inputs are not audio" in words(part(root, "errors"))
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "ink_loader")
    _, root = written(tmp_path / "ink")
    assert words(part(root, "utterances")).count("No sound and no picture") == 1  # said once, not four times


def test_another_split_may_be_asked_for(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, name in (("manifests", "{}.jsonl"), ("decoded", "{}.greedy.jsonl")):
        shutil.copy(experiment / folder / name.format("test"), experiment / folder / name.format("dev"))
    assert report_command(experiment, split="dev") == 0
    assert capsys.readouterr().out.strip() == str(experiment / "report.html")
    assert "word error rate on dev" in (experiment / "report.html").read_text(encoding="utf-8")


def test_where_there_is_no_experiment_one_line_says_so(experiment: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; give what a recipe wrote"):
        write_report_page(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="run the recipe first"):
        write_report_page(tmp_path / "empty")
    with pytest.raises(DataError, match="no split 'tset' there; known: dev, test"):
        write_report_page(experiment, split="tset")
