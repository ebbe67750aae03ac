"""Requests that wait for a lock do not hold up others."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.backends import DATABASE, OWNER, Postgres, Service, until

WAITING = 8
USERS = "/api/v1/users"


@asynccontextmanager
async def locked(postgres: Postgres, statement: str) -> AsyncGenerator[None]:
    """Hold the locks of a statement for the time of the context."""
    connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    holder: Any = await connect(host="127.0.0.1", port=postgres.port, user=OWNER, database=DATABASE)
    try:
        async with holder.transaction():
            await holder.execute(statement)
            yield
    finally:
        await holder.close()


@pytest.fixture
async def asking(service: Service) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=str(service.client.base_url), timeout=30) as client:
        yield client


async def something_waits(postgres: Postgres) -> None:
    """Return once a statement waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    await asyncio.to_thread(until, lambda: int(postgres.ask(query)) > 0, "a statement waits")


async def test_changes_that_wait_for_a_row_leave_the_rest_at_work(
    asking: httpx.AsyncClient, postgres: Postgres, user: dict[str, Any]
) -> None:
    path = f"{USERS}/{user['id']}"
    new = {"name": "Bob", "email": f"other-{user['email']}", "age": 1}
    other = (await asking.post(USERS, json=new)).json()
    change: Any = {"json": {"age": 2}, "headers": {"If-Match": "*"}}
    async with locked(postgres, f"SELECT FROM users WHERE id = {user['id']} FOR UPDATE"):
        waiting = [asyncio.create_task(asking.patch(path, **change)) for _ in range(WAITING)]
        await something_waits(postgres)
        rest = {
            "list": await asking.get(f"{USERS}?limit=1"),
            "read": await asking.get(path),
            "ready": await asking.get("/readyz"),
            "change": await asking.patch(f"{USERS}/{other['id']}", **change),
            "create": await asking.post(USERS, json=new | {"email": f"third-{user['email']}"}),
        }
        assert not any(task.done() for task in waiting), "what was asked meanwhile proves nothing"
        assert {name: answer.status_code for name, answer in rest.items()} == {
            "list": 200, "read": 200, "ready": 200, "change": 200, "create": 201,
        }  # fmt: skip
        started = time.monotonic()
        given_up = [(await task).status_code for task in waiting]
    assert set(given_up) == {503}
    assert time.monotonic() - started < 20
    assert (await asking.patch(path, **change)).status_code == 200


async def test_changes_that_wait_for_a_table_leave_readers_at_work(
    asking: httpx.AsyncClient, postgres: Postgres, user: dict[str, Any]
) -> None:
    async with locked(postgres, "LOCK TABLE users IN EXCLUSIVE MODE"):
        new = [{"name": "Bob", "email": f"{n}-{user['email']}", "age": 1} for n in range(WAITING)]
        waiting = [asyncio.create_task(asking.post(USERS, json=one)) for one in new]
        await something_waits(postgres)
        answers = [await asking.get(f"{USERS}?limit=1"), await asking.get(f"{USERS}/{user['id']}")]
        answers += [await asking.get("/readyz"), await asking.get("/api/v2/users?limit=1")]
        assert not all(task.done() for task in waiting)
        assert {answer.status_code for answer in answers} == {200}
    assert {(await task).status_code for task in waiting} <= {201, 503}
