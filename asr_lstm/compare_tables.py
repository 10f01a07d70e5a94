"""A comparison of two recognisers as text."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr_lstm.compare import Comparison

_SHOWN_SPEAKERS = 30


def p_text(p: float) -> str:
    """A p-value as it is written; what is smaller than a bootstrap can tell is a bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def rates_table(comparison: Comparison) -> Table:
    """Both error rates of both, with their difference and its p."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("", "A %", "B %", "B - A", "95 % interval", "p", "p (normal)"):
        table.add_column(heading, justify="right" if heading else "left")
    for name in ("wer", "cer"):
        (one, other), test = comparison.rates[name], comparison.tests[name]
        table.add_row(
            name.upper(),
            f"{100 * one:.2f}",
            f"{100 * other:.2f}",
            f"{100 * test.difference:+.2f}",
            f"{100 * test.low:+.2f} to {100 * test.high:+.2f}",
            p_text(test.p),
            p_text(test.z_p),
        )
    return table


def speakers_table(comparison: Comparison) -> Table:
    """The word error rates of each speaker, the one first who gains most; so many as one looks through."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("speaker", "A %", "B %", "B - A"):
        table.add_column(heading, justify="left" if heading == "speaker" else "right")
    for name, (one, other) in list(comparison.speakers.items())[:_SHOWN_SPEAKERS]:
        table.add_row(Text(name), f"{100 * one:.1f}", f"{100 * other:.1f}", f"{100 * (other - one):+.1f}")
    return table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """All that is known of a comparison."""
    first, second = comparison.names
    _say(console, f"A: {first}", f"B: {second}", f"{comparison.split}: {comparison.utterances} utterances")
    console.print(rates_table(comparison))
    for what, wins in (("utterances", comparison.wins), ("speakers", comparison.speaker_wins)):
        _say(console, f"{what}: A better in {wins[0]}, equal in {wins[1]}, B better in {wins[2]}")
    if comparison.speakers:
        console.print(speakers_table(comparison))
    for title, pairs in (("B gains most", comparison.gains), ("B loses most", comparison.losses)):
        for pair in pairs:
            heading = f"{title}: {pair.id} ({pair.gap:+d} word errors)"
            _say(
                console, heading, f"  said {pair.reference}", f"  A    {pair.first}", f"  B    {pair.second}"
            )


def _say(console: Console, *lines: str) -> None:
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
