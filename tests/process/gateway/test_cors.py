"""CORS: the gateway's answers to a browser, for a route that allows other origins and for one that does not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from api_gateway import shares
from api_gateway.routes import Cors, load
from pydantic import ValidationError
from servicekit.settings import SettingsError

from infra.gateway_routes import rendered
from infra.settings import routes as declared
from tests.process.gateway.conftest import Behaviour, Gateway, answering, head
from tests.process.gateway.test_proxy import ask, hang, reset
from tests.process.gateway.test_websockets import OPEN, echo

ORIGIN = "https://app.example.com"
ALLOWING = {"allow_origins": [ORIGIN, "http://localhost:5173"]}
NAMES = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers")


def said(answer: bytes) -> tuple[int, dict[str, str]]:
    """Return status and CORS headers; the values of a repeated one are joined."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    found: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        if name.startswith("access-control-") or name in ("vary", "cache-control"):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return int(lines[0].split()[1]), found


def request(method: str = "GET", origin: str | None = ORIGIN, *lines: str) -> bytes:
    of = [f"Origin: {origin}"] if origin else []
    return "\r\n".join([f"{method} /s/1 HTTP/1.1", "Host: h", *of, *lines, "", ""]).encode()


def preflight(origin: str = ORIGIN) -> bytes:
    return request("OPTIONS", origin, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-secret")


async def test_a_preflight_is_answered_before_token_and_limit(gateway: Gateway) -> None:
    terms: dict[str, Any] = {"auth": "required", "rate_limit": {"requests": 1}, "methods": ["GET", "HEAD", "PUT"]}
    port = await gateway(answering(500), cors=ALLOWING | {"max_age_s": 60, "headers": ["authorization"]}, **terms)
    for _ in range(5):
        assert said(await ask(port, preflight())) == (
            204,
            {
                "access-control-allow-origin": ORIGIN,
                "access-control-allow-methods": "GET, HEAD, PUT",
                "access-control-allow-headers": "authorization",
                "access-control-max-age": "60",
                "vary": "Origin",
            },
        )


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://evil.example/https://app.example.com",
        "null",
        "*",
        "https://app.example.com\r\nOrigin: https://app.example.com",
    ],
)
async def test_another_origin_is_given_nothing(gateway: Gateway, origin: str) -> None:
    port = await gateway(answering(), cors=ALLOWING)
    assert said(await ask(port, preflight(origin))) == (204, {"vary": "Origin"})
    assert said(await ask(port, request(origin=origin))) == (200, {"vary": "Origin", "cache-control": "no-store"})


async def test_the_case_of_an_origin_is_of_no_matter(gateway: Gateway) -> None:
    port = await gateway(answering(), cors=ALLOWING)
    written = "HTTPS://App.Example.com"
    assert said(await ask(port, request(origin=written)))[1]["access-control-allow-origin"] == written


async def test_a_route_without_cors_is_as_before(gateway: Gateway) -> None:
    port = await gateway(answering(), auth="required")
    assert said(await ask(port, preflight())) == (401, {"cache-control": "no-store"})
    assert said(await ask(port, request())) == (401, {"cache-control": "no-store"})


async def test_options_that_is_no_preflight_is_a_request(gateway: Gateway) -> None:
    port = await gateway(answering(), cors=ALLOWING)
    assert said(await ask(port, request("OPTIONS")))[0] == 200
    assert said(await ask(port, request("OPTIONS", None, "Access-Control-Request-Method: PUT")))[0] == 200


@pytest.mark.parametrize(
    ("behaviour", "terms", "status"),
    [
        pytest.param(answering(), {}, 200, id="an answer"),
        pytest.param(answering(body=b"x" * 100_000), {}, 200, id="a long one"),
        pytest.param(answering(404), {}, 404, id="the service's refusal"),
        pytest.param(answering(503), {"attempts": 1}, 503, id="the service's failure"),
        pytest.param(answering(), {"auth": "required"}, 401, id="no token"),
        pytest.param(answering(), {"methods": ["PUT"]}, 405, id="no such method"),
        pytest.param(reset, {"attempts": 1}, 502, id="broken off"),
        pytest.param(hang, {"timeout_s": 0.2}, 504, id="too late"),
        pytest.param(None, {}, 503, id="no instance"),
    ],
)
async def test_refusals_can_be_read_as_answers_can(
    gateway: Gateway, behaviour: Behaviour | None, terms: dict[str, Any], status: int
) -> None:
    port = await gateway(*([behaviour] if behaviour else []), cors=ALLOWING | {"credentials": True}, **terms)
    for _ in range(2):  # over a new connection, and over an existing one
        found, headers = said(await ask(port, request()))
        assert found == status
        assert [headers.get(name) for name in NAMES[:2]] == [ORIGIN, "true"]
        assert "retry-after" in headers[NAMES[2]]
        assert headers["vary"] == "Origin"


async def test_a_client_over_its_limits_can_read_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    port = await gateway(answering(), cors=ALLOWING, rate_limit={"requests": 1})
    assert said(await ask(port, request()))[0] == 200
    status, headers = said(await ask(port, request()))
    assert (status, headers["access-control-allow-origin"]) == (429, ORIGIN)
    monkeypatch.setattr(shares, "SHARE", 0)
    port = await gateway(answering(), cors=ALLOWING)
    status, headers = said(await ask(port, request()))
    assert (status, headers["access-control-allow-origin"]) == (429, ORIGIN)


async def test_a_websocket_says_its_origin_too(gateway: Gateway) -> None:
    port = await gateway(echo, cors=ALLOWING)
    status, headers = said(await ask(port, OPEN.replace(b"\r\n\r\n", f"\r\nOrigin: {ORIGIN}\r\n\r\n".encode())))
    assert (status, headers["access-control-allow-origin"]) == (101, ORIGIN)


async def test_what_the_service_says_of_origins_is_not_doubled(gateway: Gateway) -> None:
    lines = b"access-control-allow-origin: *\r\nAccess-Control-Allow-Credentials: true\r\nvary: accept\r\n"

    async def sharing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n%b\r\n" % lines)

    port = await gateway(sharing, cors=ALLOWING)
    headers = said(await ask(port, request()))[1]
    assert headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in headers
    assert headers["vary"] == "accept, Origin"
    assert "access-control-allow-origin" not in said(await ask(port, request(origin=None)))[1]
    assert said(await ask(await gateway(sharing), request()))[1]["access-control-allow-origin"] == "*"


async def test_every_origin_may_be_let_in(gateway: Gateway) -> None:
    port = await gateway(answering(), cors={"allow_origins": ["*"], "expose_headers": []})
    assert said(await ask(port, request(origin=None)))[1] == {
        "access-control-allow-origin": "*",
        "cache-control": "no-store",
    }


@pytest.mark.parametrize(
    ("answer", "caching"),
    [
        (b"200 OK\r\n", "no-store"),
        (b"404 No\r\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "no-store"),
        (b"200 OK\r\nCache-Control: max-age=60\r\n", "max-age=60"),
        (b"200 OK\r\nexpires: 0\r\n", None),
        (b"304 Not Modified\r\n", "no-store"),
    ],
)
async def test_answers_are_kept_only_where_the_service_says_so(
    gateway: Gateway, answer: bytes, caching: str | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(b"HTTP/1.1 %b%b\r\n" % (answer, b"" if answer[:3] == b"304" else b"content-length: 0\r\n"))

    assert said(await ask(await gateway(serve), request(origin=None)))[1].get("cache-control") == caching


@pytest.mark.parametrize("model", [Cors, declared.Cors])
@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_origins": []},
        {"allow_origins": ["*"], "credentials": True},
        {"allow_origins": [ORIGIN], "credentials": True, "headers": ["*"]},
        {"allow_origins": [ORIGIN], "credentials": True, "expose_headers": ["*"]},
        {"allow_origins": ["https://App.example.com"]},
        {"allow_origins": ["https://app.example.com/"]},
        {"allow_origins": ["https://app.example.com/page"]},
        {"allow_origins": ["https://app.example.com:443"]},
        {"allow_origins": ["http://app.example.com:80"]},
        {"allow_origins": ["https://*.example.com"]},
        {"allow_origins": ["https://user@app.example.com"]},
        {"allow_origins": ["app.example.com"]},
        {"allow_origins": ["null"]},
        {"allow_origins": ["https://app.example.com\r\nset-cookie: a=b"]},
        {"allow_origins": [ORIGIN], "headers": ["x: y"]},
        {"allow_origins": ["https://app.example.com:65536"]},
        {"allow_origins": ["https://app..example.com"]},
        {"allow_origins": ["https://."]},
        {"allow_origins": ["https://[zz]"]},
        {"allow_origins": ["https://[:::]"]},
        {"allow_origins": ["https://256.256.256.256"]},
        {"allow_origins": [ORIGIN], "methods": []},
        {"allow_origins": [ORIGIN], "methods": ["STEAL"]},
        {"allow_origins": [ORIGIN], "max_age_s": -1},
        {"allow_origins": [ORIGIN], "allow_credentials": True},
    ],
)
def test_what_browsers_would_not_take_is_refused_at_load(
    model: type[Cors] | type[declared.Cors], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(wrong)


def test_the_gateway_takes_what_a_stack_says(tmp_path: Path) -> None:
    cors = {"allow_origins": [ORIGIN, "http://[::1]:5173", "capacitor://localhost"], "credentials": True}
    route = declared.Route.model_validate({"prefix": "/s", "methods": ["GET"], "cors": cors})
    (tmp_path / "routes.json").write_text(rendered({"s": [route]}))
    found = load(tmp_path / "routes.json").routes[0].cors
    assert found
    assert route.cors
    assert found.model_dump(mode="json") == route.cors.model_dump(mode="json")
    (tmp_path / "routes.json").write_text(rendered({"s": [route]}).replace(ORIGIN, "null"))
    with pytest.raises(SettingsError, match=r"cors.allow_origins.0: .*this is no origin"):
        load(tmp_path / "routes.json")
