"""The cache of users in Redis: never older than the last acknowledged change, and never required.

No stale read after an acknowledged change, with any number of readers and writers in any number of processes:

1. A reader that misses takes a *lease* (SET NX of a token under the user's key) before it queries the database, and may fill the entry only
   while the key still holds that token. A change deletes the key after its commit and before its response. So a reader that queried the
   database before the commit finds its lease gone and fills nothing; one that took its lease after the deletion sees the commit.
2. When Redis cannot be reached (slow, down, cut off from this process alone), the entry may survive there. Then the *generation*, the state
   of a sequence in Postgres, is advanced. Every entry has the generation that its filler knew before its query, and readers reject entries
   of any other generation than their own. The change is acknowledged only after LEASE_S: by then every process has either learnt the new
   generation or, without a response from Postgres, stopped using the cache.
3. Concurrent requests share one query, but only one that started after they arrived (see `batching`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
from prometheus_client import Counter
from servicekit import background, shared
from servicekit.postgres import Postgres
from servicekit.tracing import step

from user_service.settings import Cache as CacheSettings

log = logging.getLogger(__name__)
PAUSE_S = 1.0
"""Seconds without a query to Redis after it failed."""
FILL_S = 10.0
"""Seconds that a reader may take from its lease to its fill."""
LEARN_EVERY_S = 0.25
LEASE_S = 0.75
"""Seconds for which a process may use the last generation that it learnt."""
REQUESTS = Counter("cache_requests", "Users asked of the cache", ["result"])
HIT, MISS, BYPASS, RUBBISH = (REQUESTS.labels(result) for result in ("hit", "miss", "bypass", "rubbish"))
FAILURES = Counter("cache_failures", "Commands that Redis did not answer")
ADVANCE = "SELECT nextval('cache_generation')"
GENERATION = """
    SELECT concat_ws('.', extract(epoch FROM pg_postmaster_start_time()), tableoid, last_value, is_called)
    FROM cache_generation
"""
"""Query for a text that never recurs.

A sequence shows its first value before and after it is drawn: `is_called` distinguishes the two. A restore brings an earlier value back, but
in another sequence (with another oid), or, if files are restored, in another run of the server.
"""
REDIS = {"db.system.name": "redis"}

LEASE = """
local taken = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'string' and kind ~= 'none' then redis.call('DEL', key) end
  taken[i] = redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return taken
"""
"""Script that takes a lease on each key without a value; values of other types are deleted."""
FILL = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    if ARGV[i + 2] == '' then redis.call('DEL', key) else redis.call('SET', key, ARGV[i + 2], 'EX', ARGV[2]) end
  end
end
"""
"""Script that fills each entry whose lease is still held; an empty value releases the lease."""

Row = dict[str, Any]
FIELDS: Mapping[str, type] = {
    "generation": str, "id": int, "name": str, "email": str, "age": int, "version": int, "created_at": str, "updated_at": str,
}  # fmt: skip


class Lease:
    """The right to fill some entries, acquired before the database is queried."""

    def __init__(self, token: bytes, generation: str, keys: dict[int, str]) -> None:
        self.token = token
        self.generation = generation
        self.keys = keys


class Cache:
    """Users by id, in Redis.

    Args:
        settings: settings of Redis; without a host nothing is cached.
        database: database with the generation.
    """

    def __init__(self, settings: CacheSettings, database: Postgres) -> None:
        self.settings = settings
        self.database = database
        self._redis: Any = None
        self._generation = ""
        self._known_until = 0.0
        self._paused_until = 0.0
        self._learning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Create the client, which connects on first use, and follow the generation."""
        if self.settings.host is None:
            return
        self._redis = shared.connect(self.settings)
        self._lease: Any = self._redis.register_script(LEASE)
        self._fill: Any = self._redis.register_script(FILL)
        self._learning = background.start("generation of the cache", self._learn)

    async def close(self) -> None:
        """Close the client."""
        if self._learning:
            await background.end(self._learning)
            await shared.close(self._redis, self.settings)

    async def ping(self) -> None:
        """Raise if Redis does not answer."""
        if self._redis:
            await self._redis.ping()

    async def get(self, ids: Sequence[int]) -> list[Row | None]:
        """Return the cached rows of some users; None for each that is not cached."""
        if not self._usable():
            BYPASS.inc(len(ids))
            return [None] * len(ids)
        generation = self._generation
        keys = [key(user_id) for user_id in ids]
        values = await self._ask("MGET", self._redis.mget(keys))
        if values is None:
            BYPASS.inc(len(ids))
            return [None] * len(ids)
        rows = [parse(value, user_id, generation) for value, user_id in zip(values, ids, strict=True)]
        found = sum(row is not None for row in rows)
        HIT.inc(found)
        MISS.inc(len(rows) - found)
        rubbish = [
            name
            for name, value, row in zip(keys, values, rows, strict=True)
            if row is None and value and not value.startswith(b"lease:")
        ]
        if rubbish:
            RUBBISH.inc(len(rubbish))
            await self._ask("DEL", self._redis.delete(*rubbish))
        return rows

    async def lease(self, ids: Sequence[int]) -> Lease | None:
        """Acquire a lease on the entries of those users that no other process is about to fill."""
        if not self._usable():
            return None
        generation = self._generation
        keys = [key(user_id) for user_id in ids]
        token = b"lease:" + secrets.token_hex(8).encode()
        taken = await self._ask("lease", self._lease(keys=keys, args=[token, int(FILL_S * 1000)]))
        if taken is None:
            return None
        mine = {user_id: name for user_id, name, yes in zip(ids, keys, taken, strict=True) if yes}
        return Lease(token, generation, mine)

    async def fill(self, lease: Lease | None, rows: Mapping[int, Row]) -> None:
        """Cache users under a lease; entries that were invalidated meanwhile stay empty."""
        if lease is None or not lease.keys or not self._usable():
            return
        stamp = {"generation": lease.generation}
        values = [orjson.dumps(stamp | rows[user_id]) if user_id in rows else b"" for user_id in lease.keys]
        await self._ask(
            "fill", self._fill(keys=list(lease.keys.values()), args=[lease.token, self.settings.ttl_s, *values])
        )

    async def invalidate(self, user_id: int) -> None:
        """Remove a user from the cache of every process; called after the commit of a change and before its response."""
        if self._redis is None:
            return
        if (
            time.monotonic() >= self._paused_until
            and await self._ask("DEL", self._redis.delete(key(user_id))) is not None
        ):
            return
        await self.database.run(lambda c: c.fetchval(ADVANCE), repeatable=True)
        await asyncio.sleep(LEASE_S)

    def _usable(self) -> bool:
        now = time.monotonic()
        return self._redis is not None and now < self._known_until and now >= self._paused_until

    async def _ask(self, name: str, command: Any) -> Any:
        """Return Redis' response; None if there is none in time, after which Redis is not used for a while."""
        try:
            with step(name, REDIS):
                return await command
        except shared.AWAY as error:
            FAILURES.inc()
            if time.monotonic() >= self._paused_until:
                log.warning(
                    "Redis does not answer; going without", extra={"reason": f"{type(error).__name__}: {error}"}
                )
            self._paused_until = time.monotonic() + PAUSE_S
            return None

    async def _learn(self) -> None:
        """Follow the generation; without it, the process does not use the cache."""
        while True:
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout(LEASE_S):
                    self._generation = await self.database.watch(GENERATION)
                self._known_until = asked_at + LEASE_S
            except Exception as error:  # noqa: BLE001 - on any error, the cache is not used until it is over
                if asked_at - self._known_until < LEARN_EVERY_S:
                    log.warning("The cache is not used", extra={"reason": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(LEARN_EVERY_S)


def key(user_id: int) -> str:
    """Return the key of a user in Redis."""
    return f"user-service:user:{user_id}"


def parse(value: bytes | None, user_id: int, generation: str) -> Row | None:
    """Return the user in a cached value of this generation; None for any other value."""
    if not value:
        return None
    try:
        row: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if type(row) is not dict or row.keys() != FIELDS.keys() or row["id"] != user_id:
        return None
    found = cast("Row", row)
    if not all(type(found[name]) is kind for name, kind in FIELDS.items()):
        return None
    return found if found.pop("generation") == generation else None
