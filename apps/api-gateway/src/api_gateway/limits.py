"""Rate limits: the number of requests of a client, counted by all replicas together.

A replica decides on a request from what it knows, without a query: its own count, and the other replicas' counts as last read from Redis.
Counts are exchanged while there are any, SYNC_S apart at least; so the replicas together may admit what arrives within that time beyond
the limit. While Redis is unreachable, each replica counts alone. A replica remembers the most recent clients, at most REMEMBERED of them.

Redis has a hash for each window. Each replica writes its total of the window under a field of its own, so an exchange that was executed,
but whose response was lost, can be sent again.

The window slides: requests of the previous window count in proportion to the part of it that is still within reach
(https://blog.cloudflare.com/counting-things-a-lot-of-different-things/).
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from secrets import token_hex
from typing import Any

from prometheus_client import Counter
from servicekit import background, shared
from servicekit.problems import Kind, Problem
from servicekit.settings import Cache

from api_gateway.routes import RateLimit

log = logging.getLogger(__name__)
SYNC_S = 0.02
PAUSE_S = 1.0
"""Seconds without a query to Redis after it failed."""
AT_ONCE = 500
"""Maximum counts in one exchange: more would delay requests while they are written."""
REMEMBERED = 20_000
"""Maximum counts that a replica keeps, some 10 MB. The least recent clients are forgotten, and their counts read from Redis if they return."""
PREFIX = "api-gateway:counts"
"""Prefix of the hashes' keys; earlier releases had numbers under `api-gateway:limit`, which are left to expire."""
DIGITS = 15
"""Digits of the largest count that is believed."""
TOO_MANY_REQUESTS = Kind(429, "too-many-requests", "Too many requests")
LIMITED = Counter("gateway_rate_limited", "Requests that were refused for their number", ["route"])
ALONE = Counter("gateway_rate_limit_sync_failures", "Exchanges of counts that Redis did not answer")
Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Window:
    """A client's requests to a route in one window."""

    limit: RateLimit
    number: int
    """Number of the window, counted since 1970."""
    field: str
    """Field in the Redis hashes, unique to this object, so that a client who was forgotten and returns does not overwrite its count."""
    before: int = 0
    """Requests in the previous window, of all replicas."""
    others: int = 0
    """Requests in this window that other replicas have counted."""
    own: int = 0
    """Requests in this window that this replica has counted."""

    def used(self, now: float) -> float:
        """Return the requests that count towards the limit at a time."""
        if not self.before:
            return self.others + self.own
        elapsed = now / self.limit.per_s - self.number
        return self.before * max(1 - elapsed, 0) + self.others + self.own

    def advance(self, number: int) -> None:
        """Move to another window."""
        if number != self.number:
            self.before = self.others + self.own if number == self.number + 1 else 0
            self.number, self.others, self.own = number, 0, 0

    def free_after_s(self, now: float) -> int:
        """Return the seconds until one more request is admitted: when enough of the previous window, or of this one, has slid away."""
        elapsed = now / self.limit.per_s - self.number
        here = self.others + self.own
        if here < self.limit.requests:
            wait = 1 - (self.limit.requests - 1 - here) / self.before - elapsed
        else:
            wait = 1 - elapsed + 1 - (self.limit.requests - 1) / here
        return max(math.ceil(wait * self.limit.per_s), 1)


class RateLimits:
    """The counts of every client and route.

    Args:
        settings: settings of Redis; without a host this replica counts alone.
    """

    def __init__(self, settings: Cache) -> None:
        self._settings = settings
        self._redis: Any = shared.connect(settings) if settings.host else None
        self._replica = token_hex(8)
        self._fields = count()
        self._windows: dict[str, Window] = {}
        self._unsent: set[str] = set()
        self._wake = asyncio.Event()
        self._alone = False
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to exchange counts."""
        self._loop = background.start("rate limits", self._follow)

    async def stop(self) -> None:
        """Stop exchanging counts."""
        await background.end(self._loop)
        if self._redis:
            await shared.close(self._redis, self._settings)

    def take(self, name: str, limit: RateLimit, client: str) -> Headers:
        """Count a request, and return the headers with the client's limit and remaining requests (draft-ietf-httpapi-ratelimit-headers-10).

        Args:
            name: name of the limit.
            limit: number of requests in a window.
            client: key of the client.

        Raises:
            Problem: 429, the request exceeds the limit; it is not counted.
        """
        now, requests, per_s = time.time(), limit.requests, limit.per_s
        key = f"{name}:{per_s}:{client}"
        number = int(now // per_s)
        window = self._windows.pop(key, None) or Window(limit, number, f"{self._replica}.{next(self._fields)}")
        self._windows[key] = window  # last in order: it is forgotten last
        if len(self._windows) > REMEMBERED:
            self._forget(next(iter(self._windows)))
        window.limit = limit
        window.advance(number)
        used = window.used(now)
        if used + 1 > requests:
            LIMITED.labels(name).inc()
            wait_s = window.free_after_s(now)
            terms = {
                "Retry-After": str(wait_s),
                "RateLimit": f'"{name}";r=0;t={wait_s}',
                "RateLimit-Policy": policy(name, requests, per_s).decode(),
            }
            raise Problem(TOO_MANY_REQUESTS, f"at most {requests} in {per_s} s; wait {wait_s} s", terms)
        window.own += 1
        self._unsent.add(key)
        self._wake.set()
        reset_s = math.ceil((number + 1) * per_s - now)
        left = int(requests - used - 1)
        return [
            (b"ratelimit", f'"{name}";r={left};t={reset_s}'.encode()),
            (b"ratelimit-policy", policy(name, requests, per_s)),
        ]

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(SYNC_S if await self._exchange() else PAUSE_S)
            if self._unsent:
                self._wake.set()

    async def _exchange(self) -> bool:
        """Write the counts that Redis does not have, and read those of other replicas; return whether Redis answered."""
        keys = list(islice(self._unsent, AT_ONCE))
        self._unsent.difference_update(keys)
        if self._redis is None or not keys:
            return True
        windows = [self._windows[key] for key in keys]
        sent = [(window.number, window.own) for window in windows]
        try:
            answers = await self._send(keys, windows)
        except shared.AWAY as error:
            ALONE.inc()
            if not self._alone:
                log.warning("Redis does not answer; limits are this replica's own", extra={"reason": str(error)})
            self._alone = True
            self._unsent.update(key for key in keys if key in self._windows)
            return False
        for window, (number, own), (here, before) in zip(windows, sent, answers, strict=True):
            if window.number == number:  # otherwise the window has moved on
                # A Redis that lost its state has smaller counts than this replica remembers.
                window.others = max(window.others, here - own)
                window.before = max(window.before, before)
        self._alone = False
        return True

    async def _send(self, keys: list[str], windows: list[Window]) -> list[tuple[int, int]]:
        """Write the counts of windows; return the totals of all replicas in each window and in the one before it.

        The commands are a transaction, so that a broken connection leaves no hash without an expiry.
        """
        names = [
            (redis_key(key, window.number), redis_key(key, window.number - 1))
            for key, window in zip(keys, windows, strict=True)
        ]
        pipeline = self._redis.pipeline(transaction=True)
        for (here, before), window in zip(names, windows, strict=True):
            pipeline.hset(here, window.field, window.own)
            pipeline.expire(here, 2 * window.limit.per_s)
            pipeline.hvals(here)
            pipeline.hvals(before)
        answers = await pipeline.execute(raise_on_error=False)
        pairs = list(zip(answers[2::4], answers[3::4], strict=True))
        rubbish = [
            name
            for pair, answered in zip(names, pairs, strict=True)
            for name, answer in zip(pair, answered, strict=True)
            if isinstance(answer, shared.REFUSED)
        ]
        if rubbish:
            log.warning(
                "Redis had no hash under keys of limits; they are deleted",
                extra={"keys": len(rubbish), "first": repr(rubbish[0])},
            )
            await self._redis.delete(*rubbish)
            self._unsent.update(
                key
                for key, pair in zip(keys, pairs, strict=True)
                if isinstance(pair[0], shared.REFUSED) and key in self._windows
            )
        return [(total(here), total(before)) for here, before in pairs]

    def _forget(self, key: str) -> None:
        """Forget a count, with any part of it that Redis does not have yet."""
        del self._windows[key]
        self._unsent.discard(key)


@cache  # bounded by the number of routes and their limits
def policy(name: str, requests: int, per_s: int) -> bytes:
    """Return the terms of a limit as the value of the RateLimit-Policy header."""
    return f'"{name}";q={requests};w={per_s}'.encode()


def redis_key(key: str, number: int) -> bytes:
    """Return the key of a window's hash: as bytes, because a key that cannot be encoded would keep the others from being sent."""
    return f"{PREFIX}:{key}:{number}".encode(errors="surrogatepass")


def total(values: list[bytes] | Exception) -> int:
    """Return the sum of a hash's counts; an invalid one counts nothing."""
    if isinstance(values, Exception):
        return 0
    return sum(int(value) for value in values if value.isdigit() and len(value) <= DIGITS)
