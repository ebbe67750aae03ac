import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from servicekit.postgres import Postgres
from servicekit.problems import Problem
from servicekit.settings import Database


class Pool:
    """A pool with one connection, once it is free."""

    def __init__(self) -> None:
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[None]:
        self.asked.set()
        await self.free.wait()
        yield


def waiting() -> float | None:
    return REGISTRY.get_sample_value("database_pool_waiting")


async def working(_connection: Any) -> float | None:
    return waiting()


def database(pool: Pool, connect_timeout_s: float) -> Postgres:
    postgres = Postgres("user-service", Database(password=SecretStr("x"), connect_timeout_s=connect_timeout_s))
    postgres._pool = pool  # pyright: ignore[reportPrivateUsage]
    return postgres


async def test_who_waits_for_a_connection_is_counted_until_there_is_one() -> None:
    pool = Pool()
    asking = asyncio.create_task(database(pool, 60).run(working, repeatable=True))
    await pool.asked.wait()
    assert waiting() == 1
    pool.free.set()
    assert await asking == 0
    assert waiting() == 0


@pytest.mark.parametrize(
    "failure", [ConnectionResetError("gone"), TimeoutError("gone"), asyncpg.InterfaceError("gone")]
)
async def test_a_database_that_is_away_is_left_with_one_line(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    class Gone:
        """A pool whose database is gone."""

        async def close(self) -> None:
            raise failure

        def terminate(self) -> None:
            ended.append("terminated")

    postgres = Postgres("user-service", Database(host="postgres", password=SecretStr("x")))
    postgres._pool = postgres._watching = Gone()  # pyright: ignore[reportPrivateUsage]
    await postgres.close()
    assert ended == ["terminated"] * 2
    (line,) = caplog.records
    said = vars(line)
    assert (line.levelname, line.exc_info, said["address"], said["port"]) == ("WARNING", None, "postgres", 5432)
    assert said["reason"] == f"{type(failure).__name__}: gone"


async def test_who_gives_up_waiting_is_not_counted_any_more() -> None:
    with pytest.raises(Problem, match="takes too long"):
        await database(Pool(), 0.01).run(working, repeatable=True)
    assert waiting() == 0
