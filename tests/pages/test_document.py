"""A page is one file that any parser reads and that loads nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from asr_lstm.pages import Markup, columns, details, notice, page, paragraph, section, stack, table
from asr_lstm.pages.style import STYLE


def test_a_page_is_well_formed_and_holds_its_parts() -> None:
    body = [
        notice("beware <of> this"),
        section("Part & one", paragraph("words"), details("more", paragraph("hidden")), id="one"),
        columns(stack("a", "b"), Markup("<i>c</i>")),
        "plain <text>",
    ]
    root = ElementTree.fromstring(page("Title <1>", body, subtitle="below", style=".x { color: red; }"))
    assert root.findtext("head/title") == "Title <1>"
    assert root.findtext("body/h1") == "Title <1>"
    texts = "".join(root.find("body").itertext())  # type: ignore[union-attr]
    assert "beware <of> this" in texts
    assert "plain <text>" in texts
    found = root.find("body/section")
    assert found is not None
    assert found.get("id") == "one"
    assert found.findtext("h2") == "Part & one"
    assert found.findtext("details/summary") == "more"
    assert root.findtext("head/style", "").endswith(".x { color: red; }")


def test_a_page_may_load_nothing_and_run_nothing() -> None:
    root = ElementTree.fromstring(page("x", []))
    policy = root.find("head/meta[@http-equiv]")
    assert policy is not None
    assert "default-src 'none'" in str(policy.get("content"))
    assert "script" not in str(policy.get("content"))


def test_the_style_sheet_fits_within_xml_and_knows_dark_screens_and_paper() -> None:
    assert not set(STYLE) & set("<&")
    assert "prefers-color-scheme: dark" in STYLE
    assert "@media print" in STYLE
    assert "http" not in STYLE
    assert "url(" not in STYLE


def test_a_table_escapes_its_cells_but_not_markup() -> None:
    shown = table(["<h>", "n"], [["<b>", 3], [Markup("<b>bold</b>"), "4"]], align="lr")
    root = ElementTree.fromstring(shown)
    rows = root.findall("table/tr")
    assert [cell.text for cell in rows[0]] == ["<h>", "n"]
    assert [cell.text for cell in rows[1]] == ["<b>", "3"]
    assert rows[2][0].findtext("b") == "bold"
    assert [row[1].get("class") for row in rows] == ["right"] * 3
    assert rows[1][0].get("dir") == "auto"  # text may run from right to left


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells where there are 2"):
        table(["a", "b"], [[1, 2, 3]])
