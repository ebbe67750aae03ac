import json
from collections.abc import AsyncGenerator
from pathlib import Path
#: part
from typing import Any
#: end

import httpx
import jwt
import pytest
from jwt.utils import base64url_encode
from prometheus_client import REGISTRY
#: database
from sample_service.items import Items
#: end
from sample_service.main import create_app
#: database
from sample_service.settings import SampleServiceItems
#: end
#: calls
from servicekit.calling import Answer
#: end
from servicekit.registration import Registration
from servicekit.settings import Auth, Registry
from servicekit.tokens import Verifier

PATH = "/api/v1/sample-service"
KEY = b"k" * 32
CLAIMS = {"iss": "estate", "aud": "estate", "iat": 1, "exp": 9_999_999_999}
TOKEN: str = jwt.encode(CLAIMS, KEY, "HS256", {"kid": "1"})  # pyright: ignore[reportUnknownMemberType]
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
#: calls
CALLED = {
    #: each callee
    "callee-service": "/callee-path",
    #: end each
}
"""Services that are called, with the path that each is asked for."""
#: end
#: database


class Rows:
    """A connection to Postgres with as much as the statements need."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def run(self, work: Any, **_: bool) -> Any:
        return await work(self)

    async def ping(self) -> None:
        pass

    async def fetchrow(self, _query: str, name: str) -> dict[str, Any]:
        self.names.append(name)
        return {"id": len(self.names), "name": name}

    async def fetch(self, _query: str, most: int) -> list[dict[str, Any]]:
        return [{"id": number, "name": name} for number, name in enumerate(self.names, 1)][::-1][:most]
#: end
#: calls


class Callee:
    """A service that returns the request it received."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def call(self, _request: object, method: str, path: str) -> Answer:
        return Answer(self.name, 418, {"content-type": "application/json"}, json.dumps([method, path]).encode())
#: end


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    keys = tmp_path / "jwks.json"
    key = {"kty": "oct", "kid": "1", "use": "sig", "alg": "HS256", "k": base64url_encode(KEY).decode()}
    keys.write_text(json.dumps({"keys": [key]}))
    #: database
    database: Any = Rows()
    #: end
    #: calls
    callees: dict[str, Any] = {name: Callee(name) for name in CALLED}
    #: end
    registration, verifier = Registration(Registry(), "sample-service", "", "", 0), Verifier(Auth(keys_file=keys))
    app = create_app(
        #: database
        Items(database, SampleServiceItems(most=2)),
        #: end
        #: calls
        callees,
        #: end
        registration, verifier
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client


#: database
async def test_what_was_created_is_in_the_list_the_newest_first(client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        created = await client.post(PATH, headers=WITH_TOKEN, json={"name": name})
        assert created.status_code == 201
    found = await client.get(PATH, headers=WITH_TOKEN)
    assert (found.status_code, found.json()) == (200, [{"id": 3, "name": "c"}, {"id": 2, "name": "b"}])


@pytest.mark.parametrize("wrong", [{}, {"name": ""}, {"name": "a\0"}, {"name": "a" * 201}, {"name": "a", "more": 1}])
async def test_what_cannot_be_stored_is_refused(client: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    assert (await client.post(PATH, headers=WITH_TOKEN, json=wrong)).status_code == 422
    assert (await client.get(PATH, headers=WITH_TOKEN)).json() == []
#: else
async def test_who_has_a_token_gets_the_list(client: httpx.AsyncClient) -> None:
    found = await client.get(PATH, headers=WITH_TOKEN)
    assert (found.status_code, found.json()) == (200, [{"id": 1, "name": "An example"}])
#: end
#: calls


@pytest.mark.parametrize("callee", CALLED)
async def test_what_another_service_answers_is_passed_on(client: httpx.AsyncClient, callee: str) -> None:
    found = await client.get(f"{PATH}/calls/{callee}", headers=WITH_TOKEN)
    assert (found.status_code, found.json()) == (418, ["GET", CALLED[callee]])
#: end


async def test_who_has_no_token_gets_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).status_code == 401


async def test_the_process_is_live_before_it_is_registered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200
    details = (await client.get("/health/details")).json()
    assert details["checks"]["registry"]["reason"] == "ConnectionError: not registered yet"


async def test_requests_and_lists_are_counted_for_prometheus(client: httpx.AsyncClient) -> None:
    assert "service_registered" in (await client.get("/metrics")).text
    before = REGISTRY.get_sample_value("sample_service_lists_total") or 0
    await client.get(PATH, headers=WITH_TOKEN)
    assert REGISTRY.get_sample_value("sample_service_lists_total") == before + 1


async def test_the_document_has_what_the_gateway_routes_here(client: httpx.AsyncClient) -> None:
    (document,) = (await client.get("/openapi.json")).json()["documents"]
    paths = [
        PATH,
        #: calls
        *(f"{PATH}/calls/{callee}" for callee in CALLED),
        #: end
    ]
    assert list((await client.get(document)).json()["paths"]) == paths
