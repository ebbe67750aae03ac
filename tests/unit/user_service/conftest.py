"""The API on a database that is a dict."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from servicekit import problems, routing
from servicekit.settings import Auth, Database
from servicekit.tokens import Verifier
from user_service import v1, v2
from user_service.cache import Cache
from user_service.settings import Cache as CacheSettings
from user_service.users import Users

ADA = {"name": "Ada", "email": "ada@example.com", "age": 36}
THEN = datetime(2026, 1, 1, tzinfo=UTC)
THEN_DIGITS = "20260101000000000"


class Rows:
    """The part of a Postgres connection that the API's statements need; user 1 is Ada, in version 3."""

    def __init__(self) -> None:
        self.users: dict[int, dict[str, Any]] = {
            1: {"id": 1, **ADA, "version": 3, "created_at": THEN, "updated_at": THEN}
        }
        self.keys: dict[str, dict[str, Any]] = {}
        self.settings = Database()

    async def run(self, work: Any, *, repeatable: bool, writes: bool = False) -> Any:  # noqa: ARG002 - the real one's arguments
        return await work(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        yield

    async def fetchrow(self, query: str, *values: Any) -> Any:
        if query.startswith("INSERT INTO users"):
            return self.insert(*values)
        if query.startswith("SELECT fingerprint"):
            return self.keys[values[1]]
        user = self.users.get(values[0])
        if user is None or not wanted(f"{user['version']}-{THEN_DIGITS}", *values[1:3]):
            return None
        if "DELETE" in query:
            return self.users.pop(values[0])
        given = dict(zip(("name", "email", "age"), values[3:], strict=True))
        return user | {k: v for k, v in given.items() if v is not None} | {"version": user["version"] + 1}

    def insert(self, name: str, email: str, age: int) -> Any:
        if email == "taken@example.com":
            return None
        number = max(self.users) + 1
        self.users[number] = {"id": number, "name": name, "email": email, "age": age, "version": 1}
        self.users[number] |= {"created_at": THEN, "updated_at": THEN}
        return self.users[number]

    async def fetchval(self, query: str, *values: Any) -> Any:
        if query.startswith("INSERT INTO idempotency_keys"):
            first = values[1] not in self.keys
            self.keys.setdefault(values[1], {"fingerprint": values[2]})
            return first or None
        return values[0] in self.users or None

    async def execute(self, _query: str, _subject: str, key: str, answer: str) -> None:
        self.keys[key]["answer"] = answer

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        if "ANY" in query:
            return [self.users[number] for number in values[0] if number in self.users]
        users = [user for _, user in sorted(self.users.items())]
        if "OFFSET" not in query:
            return users[: values[-1]]
        after, skip, limit = values
        shown = [{k: u[k] for k in ("id", "name", "email", "age")} for u in users if u["id"] > after]
        return shown[skip : skip + limit]


def wanted(state: str, accepted: list[str] | None, refused: list[str] | None) -> bool:
    return (accepted is None or state in accepted) and refused is not None and state not in refused


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    database: Any = Rows()

    @asynccontextmanager
    async def nothing(_: Any) -> AsyncGenerator[None]:
        yield

    app = routing.app("test", nothing)
    app.state.verifier = Verifier(Auth(required=False))
    problems.handle(app)
    users = Users(database, Cache(CacheSettings(), database))
    for routes in (v1.router(users), v2.router(users)):
        routing.add(app, routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client
