"""Where the commands print what is to be read."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def print_to_nobody() -> None:
    """Give standard output, whose reader has gone, another one.

    What is left in its buffer is written once more at the end, and must find somebody to take it.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ReaderConsole(Console):
    """Standard output, whose reader may have gone, as `| head` does: what is left to print is not missed.

    Rich would end the process there, with failures not yet listed and work not yet done.
    """

    def on_broken_pipe(self) -> None:
        """Print to nobody from now on."""
        self.quiet = True
        print_to_nobody()
