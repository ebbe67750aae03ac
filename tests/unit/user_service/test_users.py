from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from servicekit import problems
from user_service.users import Users, router

ADA = {"name": "Ada", "email": "ada@example.com", "age": 36}


class Rows:
    """A database that knows one user."""

    async def fetchrow(self, query: str, *values: Any) -> dict[str, Any] | None:
        if query.startswith("INSERT"):
            if values[1] == "taken@example.com":
                raise asyncpg.UniqueViolationError
            return {"id": 2, "name": values[0], "email": values[1], "age": values[2]}
        return {"id": 1, **ADA} if values == (1,) else None

    async def fetch(self, _query: str, after: int, limit: int) -> list[dict[str, Any]]:
        return [{"id": n, **ADA} for n in range(after + 1, after + 1 + min(limit, 2))]

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator["Rows"]:
        yield self


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    problems.handle(app)
    database: Any = Rows()
    app.include_router(router(Users(database)), prefix="/users")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client


async def test_a_user_is_found_by_id(client: httpx.AsyncClient) -> None:
    assert (await client.get("/users/1")).json() == {"id": 1, **ADA}


async def test_the_list_is_bounded(client: httpx.AsyncClient) -> None:
    assert [user["id"] for user in (await client.get("/users?after=5&limit=1")).json()] == [6]
    assert (await client.get("/users?limit=1001")).status_code == 422


@pytest.mark.parametrize("path", ["/users/abc", "/users/1.5", "/users/0", "/users/9223372036854775808"])
async def test_an_id_that_is_none_is_a_bad_request(client: httpx.AsyncClient, path: str) -> None:
    refused = await client.get(path)
    assert refused.status_code == 400
    assert refused.headers["content-type"] == problems.MEDIA_TYPE
    assert refused.json()["type"] == "/problems/malformed-path"


async def test_an_unknown_user_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/users/7")).json() == {
        "type": "/problems/user-not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no user 7",
    }


async def test_a_created_user_has_a_location(client: httpx.AsyncClient) -> None:
    created = await client.post("/users", json=ADA)
    assert created.status_code == 201
    assert created.headers["location"] == "/users/2"


async def test_a_taken_email_is_a_conflict(client: httpx.AsyncClient) -> None:
    assert (await client.post("/users", json=ADA | {"email": "taken@example.com"})).status_code == 409


async def test_invalid_json_is_a_bad_request(client: httpx.AsyncClient) -> None:
    assert (await client.post("/users", content=b"{", headers={"content-type": "application/json"})).status_code == 400


@pytest.mark.parametrize(
    "wrong", [{"age": -1}, {"age": 151}, {"name": ""}, {"email": "nobody"}, {"extra": 1}, {"name": "a\0"}]
)
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    refused = await client.post("/users", json=ADA | wrong)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == next(iter(wrong))
