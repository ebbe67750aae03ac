import time
from collections.abc import AsyncGenerator
from typing import Any

import fakeredis
import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from user_service import cache as module
from user_service.cache import FILL, LEASE, Cache, key
from user_service.settings import Cache as CacheSettings

ROW: dict[str, Any] = {
    "id": 1, "name": "Ada", "email": "ada@example.com", "age": 36, "version": 3,
    "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
}  # fmt: skip


class Generation:
    """The database's generation, which the cache advances; counting by Postgres itself is tested on Postgres."""

    advanced = 0

    async def run(self, _work: Any, *, repeatable: bool) -> None:
        assert repeatable
        self.advanced += 1


class Opened(Cache):
    """A cache on a Redis in this process that has just read the generation."""

    def __init__(self, redis: Any, database: Any, generation: str = "1") -> None:
        super().__init__(CacheSettings(host="redis"), database)
        self._redis = redis
        self._lease = redis.register_script(LEASE)
        self._fill = redis.register_script(FILL)
        self.learn(generation)

    def learn(self, generation: str) -> None:
        self._generation = generation
        self._known_until = time.monotonic() + 60

    def lose_the_database(self) -> None:
        self._known_until = 0.0


@pytest.fixture
async def redis() -> AsyncGenerator[Any]:
    redis: Any = fakeredis.FakeAsyncRedis()
    yield redis
    await redis.aclose()


@pytest.fixture
def cache(redis: Any, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setattr(module, "LEASE_S", 0.01)
    return Opened(redis, Generation())


async def remember(cache: Cache) -> None:
    await cache.fill(await cache.lease([1]), {1: ROW})


async def test_what_is_remembered_is_found(cache: Opened) -> None:
    assert await cache.get([1]) == [None]
    await remember(cache)
    assert await cache.get([1, 2]) == [ROW, None]


async def test_a_reader_that_asked_before_a_change_fills_nothing_after_it(cache: Opened) -> None:
    lease = await cache.lease([1])
    await cache.invalidate(1)
    await cache.fill(lease, {1: ROW})
    assert await cache.get([1]) == [None]


async def test_one_reader_at_a_time_may_fill(cache: Opened) -> None:
    first, second = await cache.lease([1]), await cache.lease([1])
    assert first
    assert second
    assert (list(first.keys), list(second.keys)) == ([1], [])


async def test_a_change_unknown_to_redis_invalidates_older_entries(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.01)
    database = Generation()
    cache = Opened(redis, database)
    await remember(cache)
    cache._paused_until = time.monotonic() + 60  # pyright: ignore[reportPrivateUsage]
    await cache.invalidate(1)
    assert database.advanced == 1
    another = Opened(redis, Generation(), generation="2")
    assert await another.get([1]) == [None]


async def test_an_entry_of_a_generation_yet_unknown_is_not_taken(cache: Opened, redis: Any) -> None:
    """Treat generations as unordered: after a restore, an earlier one may come back in the future."""
    await remember(Opened(redis, Generation(), generation="2"))
    assert await cache.get([1]) == [None]


async def test_a_process_that_lost_the_database_does_without(cache: Opened) -> None:
    await remember(cache)
    cache.lose_the_database()
    assert await cache.get([1]) == [None]
    assert await cache.lease([1]) is None


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff", orjson.dumps(ROW), orjson.dumps(ROW | {"generation": "1", "age": "36"}),
     orjson.dumps(ROW | {"generation": 1}), orjson.dumps(ROW | {"generation": "1", "id": 2})],
)  # fmt: skip
async def test_rubbish_is_swept_away(cache: Opened, redis: Any, rubbish: bytes) -> None:
    await redis.set(key(1), rubbish)
    assert await cache.get([1]) == [None]
    await redis.delete(key(1)) if not rubbish else None
    await remember(cache)
    assert await cache.get([1]) == [ROW]


async def test_values_of_another_type_are_swept_away(cache: Opened, redis: Any) -> None:
    await redis.rpush(key(1), "x")
    assert await cache.get([1]) == [None]
    await remember(cache)
    assert await cache.get([1]) == [ROW]


async def test_a_redis_that_fails_is_left_alone_for_a_while(cache: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def fail(*_: Any) -> None:
        nonlocal asked
        asked += 1
        raise RedisConnectionError

    monkeypatch.setattr(cache._redis, "mget", fail)  # pyright: ignore[reportPrivateUsage]
    assert [await cache.get([1]) for _ in range(3)] == [[None]] * 3
    assert asked == 1


async def test_an_entry_does_not_stay_for_ever(cache: Opened, redis: Any) -> None:
    await remember(cache)
    assert 0 < await redis.ttl(key(1)) <= 60
