import json
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import jwt
import pytest
from jwt.utils import base64url_encode
from sample_service.main import create_app
from servicekit.registration import Registration
from servicekit.settings import Auth, Registry
from servicekit.tokens import Verifier

PATH = "/api/v1/sample-service"
KEY = b"k" * 32
CLAIMS = {"iss": "estate", "aud": "estate", "iat": 1, "exp": 9_999_999_999}
TOKEN: str = jwt.encode(CLAIMS, KEY, "HS256", {"kid": "1"})  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    keys = tmp_path / "jwks.json"
    key = {"kty": "oct", "kid": "1", "use": "sig", "alg": "HS256", "k": base64url_encode(KEY).decode()}
    keys.write_text(json.dumps({"keys": [key]}))
    app = create_app(Registration(Registry(), "sample-service", "", "", 0), Verifier(Auth(keys_file=keys)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        yield client


async def test_who_has_a_token_gets_the_list(client: httpx.AsyncClient) -> None:
    found = await client.get(PATH, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (found.status_code, found.json()) == (200, [{"id": 1, "name": "An example"}])


async def test_who_has_no_token_gets_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).status_code == 401


async def test_the_process_is_live_before_it_is_registered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200
    details = (await client.get("/health/details")).json()
    assert details["checks"]["registry"]["reason"] == "ConnectionError: not registered yet"


async def test_requests_are_counted_for_prometheus(client: httpx.AsyncClient) -> None:
    assert "service_registered" in (await client.get("/metrics")).text


async def test_the_document_has_what_the_gateway_routes_here(client: httpx.AsyncClient) -> None:
    (document,) = (await client.get("/openapi.json")).json()["documents"]
    assert list((await client.get(document)).json()["paths"]) == [PATH]
