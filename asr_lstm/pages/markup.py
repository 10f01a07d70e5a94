"""Text that is safe within a page, told apart from text that is not yet."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What XML, and so a page that any parser reads, may not hold: control characters and lone surrogates (which
# Python puts into the names of files that are not UTF-8).
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\ufffd"


class Markup(str):
    """HTML as it is: `escape` leaves it alone. Joining or formatting one gives a plain str again."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Text to HTML that shows it, usable between tags and within quoted attributes; Markup stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_FORBIDDEN.sub(_REPLACEMENT, str(text)), quote=True))


def joined(parts: Iterable[str], *, by: str = "") -> Markup:
    """Parts one after the other, `by` between them, each escaped unless it is Markup."""
    return Markup(escape(by).join(escape(part) for part in parts))


def attributes(**values: object) -> Markup:
    """Attributes of a tag, a space before each; None is left out, `_` stands for `-` and `class_` for class."""
    return Markup(
        "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
            for name, value in values.items()
            if value is not None
        )
    )
