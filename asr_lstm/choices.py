"""Settings that were chosen for a recipe, each with its reason, and how they give way to what the recipe says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asr_lstm.config import Recipe


@dataclass(frozen=True)
class Choice:
    """A setting of a recipe, such as `encoder.hidden`, and in half a line why it is so.

    `needs` names another one that was chosen with it: where the recipe says otherwise there, this one is left out.
    """

    setting: str
    value: float | str | tuple[int, ...]
    reason: str
    needs: str = ""

    @property
    def option(self) -> str:
        """The same on a command line."""
        return f"--{self.setting}={self._written}"

    @property
    def line(self) -> str:
        """The same for a reader."""
        return f"  {self.setting}: {self._written} ({self.reason})"

    @property
    def _written(self) -> str:
        if isinstance(self.value, tuple):
            return str(list(self.value))
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)

    def holds(self, recipe: Recipe) -> bool:
        """Whether the recipe has it so, and does not say otherwise."""
        found: Any = recipe
        for name in self.setting.split("."):
            found = getattr(found, name)
        return bool(found == self.value)


def settle(choices: Sequence[Choice], recipe_with: Callable[[Sequence[str]], Recipe]) -> Recipe:
    """A recipe with what was chosen where it leaves something open.

    Args:
        choices: those that need another one after it.
        recipe_with: the recipe, with such options where it says nothing itself.
    """
    by_name = {choice.setting: choice for choice in choices}
    recipe = recipe_with([choice.option for choice in choices if not choice.needs])
    kept = [choice for choice in choices if not choice.needs or by_name[choice.needs].holds(recipe)]
    return recipe_with([choice.option for choice in kept])
