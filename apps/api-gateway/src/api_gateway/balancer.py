"""Load balancing: choose the instance that gets a request."""

import hashlib
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import count

from api_gateway.upstream import Upstream

Choose = Callable[[Sequence[Upstream], bytes, float], Upstream]
"""Function that chooses one of several instances, from the request's key and the loop's time."""
POINTS = 64
"""Points of each instance on the hash circle: enough that shares differ by a few per cent only."""


class PowerOfTwo:
    """Power of two choices: the less busy of two random instances (Mitzenmacher, "The Power of Two Choices", 2001)."""

    def __call__(self, upstreams: Sequence[Upstream], key: bytes, now: float) -> Upstream:  # noqa: ARG002 - any Choose
        """Choose an instance."""
        number = len(upstreams)
        first = int(random.random() * number)  # noqa: S311 - no secret
        second = int(random.random() * (number - 1))  # noqa: S311
        one, other = upstreams[first], upstreams[second + (second >= first)]
        return one if load(one, now) <= load(other, now) else other


class RoundRobin:
    """Round robin: each instance in turn."""

    def __init__(self) -> None:
        self._turn = count()

    def __call__(self, upstreams: Sequence[Upstream], key: bytes, now: float) -> Upstream:  # noqa: ARG002
        """Choose an instance."""
        return upstreams[next(self._turn) % len(upstreams)]


class ConsistentHash:
    """Consistent hashing: the same instance for the same key, as long as it exists (Karger et al., 1997)."""

    def __init__(self) -> None:
        self._of: tuple[str, ...] = ()
        self._points: list[int] = []
        self._owners: list[int] = []

    def __call__(self, upstreams: Sequence[Upstream], key: bytes, now: float) -> Upstream:  # noqa: ARG002
        """Choose an instance."""
        names = tuple(upstream.instance.id for upstream in upstreams)
        if names != self._of:
            ring = sorted((point(f"{name} {i}".encode()), at) for at, name in enumerate(names) for i in range(POINTS))
            self._of, self._points, self._owners = names, [p for p, _ in ring], [at for _, at in ring]
        return upstreams[self._owners[bisect(self._points, point(key)) % len(self._points)]]


def load(upstream: Upstream, now: float) -> float:
    """Return the load of an instance, relative to its weight."""
    return (upstream.in_flight + 1) / upstream.weight(now)


def point(of: bytes) -> int:
    """Return a position on the hash circle."""
    return int.from_bytes(hashlib.blake2b(of, digest_size=8).digest())


BALANCERS: dict[str, Callable[[], Choose]] = {
    "least_busy": PowerOfTwo,
    "round_robin": RoundRobin,
    "consistent_hash": ConsistentHash,
}
