"""Which instance gets the next request."""

from collections.abc import Iterator, Sequence
from itertools import count

from api_gateway.discovery import Instance


class RoundRobin:
    """Each instance in turn."""

    def __init__(self) -> None:
        self._turn = count()

    def order(self, instances: Sequence[Instance]) -> Iterator[Instance]:
        """Every instance once, the one whose turn it is first."""
        if not instances:
            return
        first = next(self._turn) % len(instances)
        yield from instances[first:]
        yield from instances[:first]
