"""One thing that the doctor looked at, and how it looks at things that may be broken in any way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

# "broken": recipes cannot run; "note": they can, and something could be better.
State = Literal["ok", "note", "BROKEN"]


@dataclass(frozen=True)
class Check:
    """What the doctor found out about one thing.

    Attributes:
        name: of the thing.
        state: whether it is well.
        text: what was found, in a few words.
        remedy: what to do about it, "" where there is nothing to do.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


def guarded(name: str, look: Callable[[], Iterable[Check]], *, failing: State) -> Iterator[Check]:
    """The checks that `look` makes; where it breaks, a check of this name says how, with the state `failing`.

    Whatever breaks here is what the doctor was called for: a package half installed raises anything.
    """
    try:
        yield from look()
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        yield Check(name, failing, f"cannot be told ({type(error).__name__}: {reason[:200]})")
