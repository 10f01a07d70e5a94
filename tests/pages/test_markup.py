"""Text and markup told apart."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from asr_lstm.pages import Markup, attributes, escape, joined

NASTY = [
    "<script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "a\x00b\x1bc\x7f",
    "\ud800 alone",
    "\ufffe\uffff",
    "]]> <!-- -->",
    "tab\tnew\nline",
]


@pytest.mark.parametrize("text", NASTY)
def test_text_comes_back_from_an_xml_parser_between_tags_and_in_attributes(text: str) -> None:
    shown = "".join(
        "\ufffd" if character in "\x00\x1b\x7f\ud800\ufffe\uffff" else character for character in text
    )
    element = ElementTree.fromstring(f"<p{attributes(title=text)}>{escape(text)}</p>")
    assert element.text == shown
    assert element.get("title") == shown.replace("\n", " ").replace("\t", " ")  # as XML reads attributes


def test_markup_is_escaped_once_only() -> None:
    once = escape("a < b")
    assert once == "a &lt; b"
    assert escape(once) is once


def test_what_is_joined_or_formatted_is_text_again() -> None:
    bold = Markup("<b>")
    assert escape(bold + "<i>") == "&lt;b&gt;&lt;i&gt;"
    assert escape(f"{bold}") == "&lt;b&gt;"


def test_joined_escapes_what_is_not_markup() -> None:
    assert joined([Markup("<b>"), "<"], by="&") == "<b>&amp;&lt;"
    assert isinstance(joined([]), Markup)


def test_attributes_that_are_none_are_left_out() -> None:
    assert attributes(class_="a b", aria_label='"x"', width=3, id=None) == (
        ' class="a b" aria-label="&quot;x&quot;" width="3"'
    )
