"""A whole page, and the parts that are text: sections, tables, notices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asr_lstm.pages.markup import Markup, attributes, escape, joined
from asr_lstm.pages.style import STYLE

# Nothing is loaded and no script runs, whatever a transcript may hold that slipped through unescaped.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def page(title: str, body: Sequence[str], *, subtitle: str = "", style: str = "") -> str:
    """A complete HTML document in one file, also well-formed XML; it loads nothing and needs no script.

    Args:
        title: of the document and its first heading.
        body: what follows; what is not Markup is escaped.
        subtitle: a line below the heading.
        style: what to add to the style sheet; no `<` or `&` in it.
    """
    below = paragraph(subtitle, style="subtitle") if subtitle else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy"{attributes(content=_POLICY)}/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        f'<h1 dir="auto">{escape(title)}</h1>\n{below}{joined(body)}</body>\n</html>\n'
    )


def section(title: str, *parts: str, id: str = "") -> Markup:
    """A heading and what stands under it; `id` is what a link `#id` leads to."""
    return Markup(
        f"<section{attributes(id=id or None)}>\n<h2>{escape(title)}</h2>\n{joined(parts)}</section>\n"
    )


def paragraph(*parts: str, style: str = "") -> Markup:
    """A paragraph; `style` is a class of the style sheet, such as `faint`."""
    return Markup(f"<p{attributes(class_=style or None)}>{joined(parts)}</p>\n")


def notice(*parts: str) -> Markup:
    """A paragraph in a frame that nobody overlooks."""
    return paragraph(*parts, style="notice")


def details(summary: str, *parts: str, open: bool = False) -> Markup:
    """Parts that are folded away behind a line of summary, or shown at first where `open`."""
    opened = attributes(open="open" if open else None)
    return Markup(f"<details{opened}>\n<summary>{escape(summary)}</summary>\n{joined(parts)}</details>\n")


def columns(*parts: str, narrow: bool = False) -> Markup:
    """Parts side by side: two where the screen is wide enough, or as many as fit where they are `narrow`."""
    style = attributes(class_="row" if narrow else "columns")
    return Markup(f"<div{style}>\n{joined(parts)}</div>\n")


def stack(*parts: str) -> Markup:
    """Parts one below the other that are one part of `columns`."""
    return Markup(f"<div>\n{joined(parts)}</div>\n")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, align: str = "") -> Markup:
    """A table that scrolls sideways within itself on a narrow screen.

    Args:
        headers: of the columns.
        rows: a cell for each header; Markup stays as it is, all else is escaped.
        align: a letter a column, `l` or `r`; columns beyond it stand to the left.

    Raises:
        ValueError: a row with more or fewer cells than headers.
    """
    styles = ["right" if letter == "r" else None for letter in align.ljust(len(headers))]
    lines = ["<tr>" + "".join(_cell("th", *pair) for pair in zip(headers, styles, strict=False)) + "</tr>"]
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"rows: one has {len(row)} cells where there are {len(headers)} headers")
        lines.append(
            "<tr>" + "".join(_cell("td", *pair) for pair in zip(row, styles, strict=False)) + "</tr>"
        )
    return Markup('<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>\n")


def _cell(tag: str, content: object, style: str | None) -> str:
    # Transcripts may run from right to left; Markup brings its own direction.
    direction = None if isinstance(content, Markup) or style else "auto"
    return f"<{tag}{attributes(class_=style, dir=direction)}>{escape(content)}</{tag}>"
