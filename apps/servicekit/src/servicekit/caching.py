"""A cache for keys from requests, bounded in entries and in the size of each key."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T", str, bytes)
R = TypeVar("R")


class Remembered(dict[T, R], Generic[T, R]):
    """Cached results of a function of a text. A hit costs no more than in any dict; when the cache is full, the oldest result is removed.

    Args:
        function: function that computes a result.
        entries: maximum number of cached results.
        characters: maximum characters, or bytes, of a cached text; `lru_cache` would keep texts of any size.
    """

    def __init__(self, function: Callable[[T], R], entries: int, characters: int) -> None:
        super().__init__()
        self._function = function
        self._entries = entries
        self._characters = characters

    def __missing__(self, text: T) -> R:
        """Compute a result, and cache it."""
        result = self._function(text)
        if len(text) <= self._characters:
            if len(self) >= self._entries:
                del self[next(iter(self))]
            self[text] = result
        return result


def remembered(entries: int, characters: int) -> Callable[[Callable[[T], R]], Callable[[T], R]]:
    """Return a decorator that caches the results of a function of a text."""

    def decorate(function: Callable[[T], R]) -> Callable[[T], R]:
        return Remembered(function, entries, characters).__getitem__

    return decorate
