import asyncio
import base64
import json
import logging
import os
import re
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from api_gateway import issuing
from api_gateway.forwarded import Peers
from api_gateway.issuing import ATTEMPTS, PATH, SHARE, TOKEN_S, Issuer, parse_clients, router
from api_gateway.limits import RateLimits
from fastapi import FastAPI
from servicekit import following, problems, routing
from servicekit.following import Followed
from servicekit.settings import Auth, Cache
from servicekit.tokens import Verifier

from infra.key_sets import key_set, kid
from infra.settings.auth import ClientSettings
from infra.token_clients import hashed, rendered

SIGNS, ACCEPTED = (base64.urlsafe_b64encode(letter * 32).decode().rstrip("=") for letter in (b"s", b"a"))
SECRET = "billing's: secret + %41 ü"
GRANT = {"grant_type": "client_credentials"}
IN_FORM = GRANT | {"client_id": "billing", "client_secret": SECRET}


def billing(secret: str = SECRET) -> ClientSettings:
    return ClientSettings(id="billing", secret_hash=hashed(secret, "billing"), user_id=7, username="Billing")


def write(file: Path, *clients: ClientSettings) -> None:
    replace(file, rendered("the operator's", clients))


def replace(file: Path, text: str) -> None:
    # As the kubelet updates a file: a new one under the same name.
    new = file.with_suffix(".new")
    new.write_text(text)
    os.utime(new, ns=(time.time_ns(), time.time_ns()))
    new.replace(file)


def basic(user: str, password: str) -> dict[str, str]:
    """Return credentials as RFC 6749, section 2.3.1 requires: both encoded as in a form."""
    encoded = ":".join(str(httpx.QueryParams({"": part})).removeprefix("=") for part in (user, password))
    return {"Authorization": "Basic " + base64.b64encode(encoded.encode()).decode()}


def form(body: str | bytes, kind: str = "", **headers: str) -> dict[str, Any]:
    """Return the arguments of a request whose body is sent byte for byte."""
    return {"content": body, "headers": {"Content-Type": "application/x-www-form-urlencoded" + kind} | headers}


FORM = urlencode(IN_FORM)
NEVER_STORED = {"content-type": "application/json", "cache-control": "no-store", "pragma": "no-cache"}
"""Headers that RFC 6749, sections 5.1 and 5.2, requires of every answer."""


def headers(answer: httpx.Response) -> dict[str, str]:
    """Return the headers of an answer that the standard mentions."""
    return {name: answer.headers[name] for name in (*NEVER_STORED, "www-authenticate") if name in answer.headers}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "clients.json", billing())
    return tmp_path / "clients.json"


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    (tmp_path / "jwks.json").write_text(key_set([SIGNS, ACCEPTED]))
    return Verifier(Auth(keys_file=tmp_path / "jwks.json", issuer="https://api.example.com"))


@pytest.fixture
def app(file: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.0)

    @asynccontextmanager
    async def nothing(_: Any) -> AsyncGenerator[None]:
        yield

    app = routing.app("test", nothing)
    problems.handle(app)
    issuer = Issuer(verifier.settings, verifier, Followed("clients.file", file, parse_clients))
    routing.add(app, router(issuer, RateLimits(Cache()), Peers([])))
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


async def test_a_client_that_sends_its_secret_in_the_form_gets_a_token(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, data=IN_FORM)
    assert answer.status_code == 200
    assert headers(answer) == NEVER_STORED
    assert answer.json().keys() == {"access_token", "token_type", "expires_in"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 86400)


async def test_a_client_that_sends_its_secret_by_basic_gets_a_token(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, data=GRANT, headers=basic("billing", SECRET))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "sent",
    [
        form(FORM, "; charset=UTF-8"),
        form(FORM, **{"Content-Encoding": "identity"}),
        form(f"{FORM}&scope=&unknown=1"),
        {"data": IN_FORM, "params": {"unknown": "1"}},
        {"data": GRANT | {"client_id": "billing"}, "headers": basic("billing", SECRET)},
        {"data": GRANT | {"client_secret": ""}, "headers": basic("billing", SECRET)},
    ],
    ids=["charset", "identity", "unknown parameters", "unknown in the URL", "client id twice", "empty as absent"],
)
async def test_what_the_standard_allows_gets_a_token(client: httpx.AsyncClient, sent: dict[str, Any]) -> None:
    answer = await client.post(PATH, **sent)
    assert answer.status_code == 200, answer.text


async def test_the_token_says_whose_it_is_and_is_good_for_a_day(client: httpx.AsyncClient, verifier: Verifier) -> None:
    token = (await client.post(PATH, data=IN_FORM)).json()["access_token"]
    claims = verifier.claims(f"Bearer {token}") or {}
    assert (claims["sub"], claims["user_id"], claims["username"]) == ("billing", 7, "Billing")
    assert claims["exp"] - claims["iat"] == TOKEN_S == 86400
    assert (claims["iss"], claims["aud"]) == ("https://api.example.com", "estate")


async def test_the_first_key_signs(client: httpx.AsyncClient) -> None:
    token = (await client.post(PATH, data=IN_FORM)).json()["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == kid(SIGNS)


async def test_no_two_tokens_are_the_same(client: httpx.AsyncClient) -> None:
    tokens = {(await client.post(PATH, data=IN_FORM)).json()["access_token"] for _ in range(2)}
    assert len(tokens) == 2


WRONG_SECRET = IN_FORM | {"client_secret": "wrong"}
TEXT = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")
"""Characters that RFC 6749, section 5.2, allows in a description."""
BOTH: dict[str, Any] = {"data": IN_FORM, "headers": basic("billing", SECRET)}


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        pytest.param({"data": WRONG_SECRET}, 401, "invalid_client", id="wrong secret"),
        pytest.param({"data": GRANT, "headers": basic("billing", "wrong")}, 401, "invalid_client", id="wrong by Basic"),
        pytest.param({"data": IN_FORM | {"client_id": "bill"}}, 401, "invalid_client", id="unknown client"),
        pytest.param({"data": GRANT}, 401, "invalid_client", id="no client"),
        pytest.param({"data": IN_FORM | {"client_secret": ""}}, 401, "invalid_client", id="no secret"),
        pytest.param(
            {"data": GRANT, "headers": {"Authorization": "Basic x"}}, 401, "invalid_client", id="Basic, not base64"
        ),
        pytest.param(
            {"data": GRANT, "headers": {"Authorization": b"Basic \xe9"}}, 401, "invalid_client", id="Basic, not ASCII"
        ),
        pytest.param(
            {"data": GRANT, "headers": {"Authorization": "Basic /w=="}}, 401, "invalid_client", id="Basic, not UTF-8"
        ),
        pytest.param(
            {"data": GRANT, "headers": {"Authorization": "Bearer x"}}, 401, "invalid_client", id="another scheme"
        ),
        pytest.param(BOTH, 400, "invalid_request", id="both ways at once"),
        pytest.param({"data": {"client_id": "billing"}}, 400, "invalid_request", id="no grant type"),
        pytest.param({"json": IN_FORM}, 400, "invalid_request", id="no form"),
        pytest.param({"data": IN_FORM | {"client_secret": "x" * 100_000}}, 401, "invalid_client", id="endless secret"),
        pytest.param({"data": IN_FORM | {"grant_type": "password"}}, 400, "unsupported_grant_type", id="password"),
        pytest.param(
            {"data": IN_FORM | {"grant_type": "refresh_token"}}, 400, "unsupported_grant_type", id="refresh token"
        ),
        pytest.param({"data": IN_FORM | {"scope": "users"}}, 400, "invalid_scope", id="a scope"),
        pytest.param({"files": IN_FORM | {"f": b""}}, 400, "invalid_request", id="multipart"),
        *(
            pytest.param(form(f"{FORM}&{name}={value}"), 400, "invalid_request", id=f"{name} twice")
            for name, value in [*IN_FORM.items(), ("grant_type", ""), ("scope", "a&scope=b"), ("scope", "&scope=")]
        ),
        pytest.param(form(FORM, "; charset=latin-1"), 400, "invalid_request", id="latin-1"),
        pytest.param(form(FORM, "; charset*=utf-8''x; charset*1=y"), 400, "invalid_request", id="pieces of a charset"),
        pytest.param(form(FORM, f"; charset*{'9' * 5000}=x"), 400, "invalid_request", id="a long number"),
        pytest.param(form(FORM, **{"Content-Encoding": "gzip"}), 400, "invalid_request", id="gzip"),
        pytest.param(form(f"{FORM}&x=%ff"), 400, "invalid_request", id="not UTF-8"),
        pytest.param(form(b"x=\xff"), 400, "invalid_request", id="bytes that are not UTF-8"),
        pytest.param(form(FORM + "".join(f"&x{n}" for n in range(40))), 400, "invalid_request", id="many parameters"),
        pytest.param({"data": IN_FORM, "params": {"client_secret": "x"}}, 400, "invalid_request", id="in the URL"),
        pytest.param(
            {"data": GRANT | {"client_id": "other"}, "headers": basic("billing", SECRET)},
            400,
            "invalid_request",
            id="two clients",
        ),
        pytest.param(
            {"data": GRANT, "headers": [*basic("a", "b").items(), *basic("billing", SECRET).items()]},
            400,
            "invalid_request",
            id="two Authorization headers",
        ),
    ],
)
async def test_a_refused_request_gets_the_standard_reason(
    client: httpx.AsyncClient, sent: dict[str, Any], status: int, error: str
) -> None:
    answer = await client.post(PATH, **sent)
    assert (answer.status_code, answer.json().get("error")) == (status, error), answer.text
    assert answer.json().keys() == {"error", "error_description"}
    assert TEXT.fullmatch(answer.json()["error_description"])
    assert headers(answer) == NEVER_STORED | ({"www-authenticate": 'Basic realm="tokens"'} if status == 401 else {})


async def test_a_guessing_client_has_to_wait(client: httpx.AsyncClient) -> None:
    for _ in range(ATTEMPTS.requests):
        assert (await client.post(PATH)).status_code == 400
    answer = await client.post(PATH, data=IN_FORM)
    assert answer.status_code == 429
    assert answer.json()["type"] == "/problems/too-many-requests"
    assert 1 <= int(answer.headers["retry-after"]) <= 2 * ATTEMPTS.per_s


async def test_who_guesses_from_a_whole_network_is_one_client(client: httpx.AsyncClient, app: FastAPI) -> None:
    statuses: list[int] = []
    for number in range(ATTEMPTS.requests + 1):
        transport = httpx.ASGITransport(app, client=(f"2001:db8::{number:x}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as guessing:
            statuses.append((await guessing.post(PATH)).status_code)
    assert statuses == [400] * ATTEMPTS.requests + [429]
    assert (await client.post(PATH)).status_code == 400


async def test_clients_come_and_go_while_the_gateway_runs(client: httpx.AsyncClient, file: Path) -> None:
    write(file, billing("another"))
    assert (await client.post(PATH, data=IN_FORM)).status_code == 401
    assert (await client.post(PATH, data=IN_FORM | {"client_secret": "another"})).status_code == 200
    write(file)
    assert (await client.post(PATH, data=IN_FORM | {"client_secret": "another"})).status_code == 401


async def test_a_list_of_clients_that_is_wrong_leaves_the_old_one_and_is_logged_without_a_hash(
    client: httpx.AsyncClient, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = billing().model_dump()
    replace(file, json.dumps({"clients": [entry | {"user_id": "seven"}, entry | {"secret_hash": "md5-of-it"}]}))
    assert (await client.post(PATH, data=IN_FORM)).status_code == 200
    (record,) = [record for record in caplog.records if "old content stays" in record.message]
    assert "clients.0.user_id" in record.__dict__["reason"]
    assert "argon2id$v" not in record.__dict__["reason"]
    assert "md5-of-it" not in record.__dict__["reason"]


async def test_no_secret_and_no_hash_is_in_an_answer_or_in_a_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endless = IN_FORM | {"client_secret": SECRET * 60}
    answers = [await client.post(PATH, data=data) for data in (IN_FORM, WRONG_SECRET, endless)]
    answers.append(await client.post(PATH, **BOTH))
    said = [answer.text for answer in answers] + [str(record.__dict__) for record in caplog.records]
    for secret in (SECRET, billing().secret_hash, SIGNS):
        assert not any(secret in text for text in said)


async def test_who_asks_too_much_at_once_keeps_no_other_waiting(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = threading.Event()

    def matches(_hash: str, secret: str) -> bool:
        return verified.wait(30) and secret == SECRET

    async def ask(address: str, secret: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.post(PATH, data=IN_FORM | {"client_secret": secret})

    monkeypatch.setattr(issuing, "matches", matches)
    guessing = [asyncio.create_task(ask(f"192.0.2.{number % 2}", "wrong")) for number in range(56)]
    await asyncio.sleep(0)
    honest = asyncio.create_task(ask("192.0.2.9", SECRET))
    while sum(task.done() for task in guessing) < 56 - 2 * SHARE:  # noqa: ASYNC110 - tasks have no event
        await asyncio.sleep(0.01)
    verified.set()
    assert sorted(answer.status_code for answer in await asyncio.gather(*guessing)) == [401] * 2 * SHARE + [429] * (
        56 - 2 * SHARE
    )
    assert (await honest).status_code == 200
