from __future__ import annotations

import json

from asr_lstm.alignment import Alignment, TimedSpan
from asr_lstm.alignment_writers import ctm, json_line, textgrid

SPOKEN = Alignment(
    "talk 1",
    1.5,
    words=[TimedSpan("\u00e7ok", 0.1204, 0.44, 0.98765), TimedSpan('"iyi"', 0.44, 1.2, 0.5)],
    units=[
        TimedSpan("\u00e7", 0.1204, 0.2, 1.0),
        TimedSpan("o", 0.2, 0.3, 0.9),
        TimedSpan("k", 0.32, 0.44, 0.8),
    ],
)
# praatio 6.2.2 and textgrid 1.6.1 read the tiers of SPOKEN out of it.
GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.500
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.500
        intervals: size = 4
        intervals [1]:
            xmin = 0.000
            xmax = 0.120
            text = ""
        intervals [2]:
            xmin = 0.120
            xmax = 0.440
            text = "\u00e7ok"
        intervals [3]:
            xmin = 0.440
            xmax = 1.200
            text = "\"\"iyi\"\""
        intervals [4]:
            xmin = 1.200
            xmax = 1.500
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "units"
        xmin = 0
        xmax = 1.500
        intervals: size = 6
        intervals [1]:
            xmin = 0.000
            xmax = 0.120
            text = ""
        intervals [2]:
            xmin = 0.120
            xmax = 0.200
            text = "\u00e7"
        intervals [3]:
            xmin = 0.200
            xmax = 0.300
            text = "o"
        intervals [4]:
            xmin = 0.300
            xmax = 0.320
            text = ""
        intervals [5]:
            xmin = 0.320
            xmax = 0.440
            text = "k"
        intervals [6]:
            xmin = 0.440
            xmax = 1.500
            text = ""
"""


def test_ctm() -> None:
    assert ctm(SPOKEN) == 'talk_1 1 0.120 0.320 \u00e7ok 0.9877\ntalk_1 1 0.440 0.760 "iyi" 0.5000\n'


def test_json() -> None:
    line = json_line(SPOKEN)
    assert line.endswith("}\n")
    row = json.loads(line)
    assert (row["id"], row["duration"]) == ("talk 1", 1.5)
    assert row["words"][0] == {"word": "\u00e7ok", "start": 0.12, "end": 0.44, "confidence": 0.9877}
    assert [unit["unit"] for unit in row["units"]] == ["\u00e7", "o", "k"]


def test_textgrid() -> None:
    assert textgrid(SPOKEN) == GRID
