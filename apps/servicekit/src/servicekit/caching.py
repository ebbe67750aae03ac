"""A cache whose keys requests may make: bounded in entries and in the size of each."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")


def remembered(entries: int, characters: int) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Remember a function's last results by its arguments, which are texts; `lru_cache` alone would keep texts of any length.

    Args:
        entries: results that are kept.
        characters: of all arguments together; a call with longer ones is made each time.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def call(*texts: str) -> R:
            return kept(*texts) if sum(map(len, texts)) <= characters else function(*texts)

        return call

    return decorate
