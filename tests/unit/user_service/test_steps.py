"""Spans of a request's queries to Postgres and Redis."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import pytest
from servicekit.postgres import Postgres
from servicekit.problems import Problem
from servicekit.settings import Database
from servicekit.spans import Spans
from servicekit.tracing import current
from user_service.cache import Cache
from user_service.settings import Cache as CacheSettings

from tests.support.collector import attributes, collecting
from tests.unit.user_service.test_cache import ROW, Generation, Opened


class Pool:
    """A pool whose connections are lost after the first one."""

    lost = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[None]:
        self.lost += 1
        if self.lost > 1:
            raise ConnectionResetError
        yield


async def test_every_try_at_the_database_and_every_command_of_the_cache_is_a_span() -> None:
    postgres = Postgres("user-service", Database(host="postgres"))
    postgres._pool = Pool()  # pyright: ignore[reportPrivateUsage]
    redis: Any = fakeredis.FakeAsyncRedis()
    cache = Opened(redis, Generation())

    async def work(_connection: object) -> int:
        return 1

    with collecting() as collector:
        spans = Spans("user-service", collector.endpoint, ratio=1)
        trace = spans.start("", "GET", "/")
        current.set(trace)
        await cache.get([1])
        await postgres.run(work, repeatable=True)
        await cache.fill(await cache.lease([1]), {1: ROW})
        with pytest.raises(Problem):
            await postgres.run(work, repeatable=True)
        spans.close()
        found = collector.of("user-service")
    await redis.aclose()
    assert [span.name for span in found] == ["MGET", "postgresql", "lease", "fill", *["postgresql"] * 3]
    assert attributes(found[0])["db.system.name"] == "redis"
    assert attributes(found[1]) == {
        "db.system.name": "postgresql",
        "db.namespace": "myapp",
        "server.address": "postgres",
        "server.port": 5432,
    }
    assert [attributes(span).get("error.type") for span in found[4:]] == ["ConnectionResetError"] * 3
    assert {span.parent_span_id.hex() for span in found} == {trace.span_id}


async def test_a_cache_without_redis_has_no_spans() -> None:
    with collecting() as collector:
        spans = Spans("user-service", collector.endpoint, ratio=1)
        current.set(spans.start("", "GET", "/"))
        assert await Cache(CacheSettings(), Postgres("user-service", Database())).get([1]) == [None]
        spans.close()
    assert not collector.spans
