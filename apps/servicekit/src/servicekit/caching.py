"""A cache for keys that requests make: bounded in entries and in the size of each."""

from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class Remembered(dict[str, R], Generic[R]):
    """Results by the texts that they were made of. A result that is there costs no more than in any dict; the oldest one goes when it is full.

    Args:
        function: makes a result.
        entries: results that are kept.
        characters: of the longest text that is kept; `lru_cache` would keep any.
    """

    def __init__(self, function: Callable[[str], R], entries: int, characters: int) -> None:
        super().__init__()
        self._function = function
        self._entries = entries
        self._characters = characters

    def __missing__(self, text: str) -> R:
        """Make a result, and keep it."""
        result = self._function(text)
        if len(text) <= self._characters:
            if len(self) >= self._entries:
                del self[next(iter(self))]
            self[text] = result
        return result


def remembered(entries: int, characters: int) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Remember the results of a function of a text."""

    def decorate(function: Callable[[str], R]) -> Callable[[str], R]:
        return Remembered(function, entries, characters).__getitem__

    return decorate
