"""The gateway's own endpoints on raw sockets, in the whole app, without Consul or a service."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from api_gateway import routes
from api_gateway.main import create_app
from api_gateway.settings import GatewaySettings
from pydantic import ValidationError
from servicekit import bodies, http1, serving
from servicekit.observation import Observed
from servicekit.registration import Registration
from servicekit.serving import Server, configured

from infra.settings import routes as declared
from tests.process.gateway.conftest import nothing
from tests.process.gateway.test_server import ending, exchange, request
from tests.unit.api_gateway.test_issuing import billing
from tests.unit.api_gateway.test_issuing import write as write_clients
from tests.unit.servicekit.test_tokens import OLD, sign
from tests.unit.servicekit.test_tokens import write as write_keys

CLOSED_PORT = 1
TRUSTED = "127.0.0.0/8"


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[int]:
    """Yield the port of a gateway that takes loopback for the Ingress."""
    monkeypatch.setattr(serving, "SETTLE_S", 0.0)
    monkeypatch.setattr(bodies, "CLIENT_S", 0.3)
    write_keys(tmp_path / "jwks.json", {"old": OLD})
    write_clients(tmp_path / "clients.json", billing())
    (tmp_path / "routes.json").write_text(json.dumps({"routes": [{"prefix": "/api/v1/users", "service": "s"}]}))
    given = GatewaySettings.model_validate(
        {
            "service": {"registry": {"address": f"127.0.0.1:{CLOSED_PORT}"}},
            "auth": {"keys_file": tmp_path / "jwks.json"},
            "routes": {"file": tmp_path / "routes.json", "trusted": TRUSTED},
            "clients": {"file": tmp_path / "clients.json"},
        }
    )
    proxy = create_app(given, Registration(given.service.registry, "api-gateway", "a", "127.0.0.1", 8080))
    observed = Observed(proxy, "api-gateway", client=proxy.peers.address)
    server = Server(configured(observed, "127.0.0.1", 0), nothing, nothing)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    async with asyncio.timeout(30):
        await task


def parts(answer: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, headers and body of the only answer."""
    assert answer.count(b"HTTP/1.1 ") == 1
    given, _, body = answer.partition(b"\r\n\r\n")
    line, *lines = given.split(b"\r\n")
    return (
        int(line.split()[1]),
        {name.lower(): value for name, _, value in (each.partition(b": ") for each in lines)},
        body,
    )


PATHS = [b"/", b"/livez", b"/readyz", b"/health", b"/health/details", b"/metrics",
    b"/docs", b"/docs/docs.js", b"/openapi.json", b"/nothing", b"/auth/token"]  # fmt: skip


@pytest.mark.parametrize("path", [path.decode() for path in PATHS if path not in (b"/", b"/nothing")])
@pytest.mark.parametrize("route", [routes.Route, declared.Route])
def test_a_route_cannot_hide_an_endpoint_of_the_gateway(
    route: type[routes.Route] | type[declared.Route], path: str
) -> None:
    with pytest.raises(ValidationError, match="the gateway itself answers there"):
        route.model_validate({"prefix": path})


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_answered_as_get_without_the_body(port: int, path: bytes) -> None:
    head = parts(await exchange(port, ending(request(path, method=b"HEAD"))))
    get = parts(await exchange(port, ending(request(path))))
    assert (head[0], head[1].get(b"content-type")) == (get[0], get[1].get(b"content-type"))
    assert head[2] == b""
    assert get[2] or path == b"/"


async def test_the_root_leads_to_the_page_wherever_that_is(port: int) -> None:
    status, headers, _ = parts(await exchange(port, ending(request(b"/"))))
    assert (status, headers[b"location"]) == (307, b"docs")


@pytest.mark.parametrize("path", [b"/auth/token/", b"/health/", b"/docs/", b"/livez/", b"/openapi.json/"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_path_with_a_slash_more_is_another_path(port: int, path: bytes, method: bytes) -> None:
    status, headers, _ = parts(await exchange(port, ending(request(path, method=method))))
    assert status == 404
    assert b"location" not in headers


@pytest.mark.parametrize("path", [b"/auth/token", b"/nothing", b"/health"])
@pytest.mark.parametrize("sent", [b"", b"g"])
async def test_a_body_that_stalls_ends_in_408_without_a_token(port: int, path: bytes, sent: bytes) -> None:
    head = request(path, b"Content-Length: 29", b"Content-Type: application/x-www-form-urlencoded", method=b"POST")
    status, headers, body = parts(await exchange(port, head + sent))
    assert (status, headers[b"connection"]) == (408, b"close")
    assert b"/problems/request-timeout" in body


async def test_the_details_need_a_token_of_those_who_come_through_the_ingress(port: int) -> None:
    assert parts(await exchange(port, ending(request(b"/health/details"))))[0] == 401
    wrong = ending(request(b"/health/details", b"Authorization: Bearer x"))
    assert parts(await exchange(port, wrong))[0] == 401
    token = b"Authorization: " + sign().encode()
    status, _, body = parts(await exchange(port, ending(request(b"/health/details", token))))
    assert status in (200, 503)
    assert json.loads(body)["upstreams"]["s"]["instances"] == []


CLIENT = b"X-Forwarded-For: 203.0.113.7"
REFUSED = {
    "a method": request(b"h:443", CLIENT, method=b"CONNECT"),
    "a target": request(b"/x#y", CLIENT),
    "fields": request(b"/x", CLIENT, *[b"X: x"] * http1.FIELDS_LIMIT),
    "a field": request(b"/x", CLIENT, b"Y: y", b"X\0: x"),
    "a body": request(b"/livez", CLIENT, b"Transfer-Encoding: chunked", method=b"POST") + b"g\r\n",
    "trailers": request(b"/livez", CLIENT, b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\n@ x\r\n\r\n",
}
"""Requests that are refused before their body is read, as the Ingress passes them on."""


@pytest.mark.parametrize("name", REFUSED)
async def test_the_line_about_a_refusal_names_the_client(
    port: int, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    other = request(b"/livez", CLIENT.replace(b"7", b"8"))
    for before in (b"", other):  # clients share the connections of the Ingress
        caplog.clear()
        await exchange(port, before + REFUSED[name])
        (record,) = (each for each in caplog.records if each.message == "A request was refused before it was read")
        assert vars(record)["remote"] == "203.0.113.7"


@pytest.mark.parametrize("sent", [b"\0\r\n\r\n", b"@ / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_request_is_not_the_last_client_s(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    await exchange(port, request(b"/livez", CLIENT) + sent)
    (record,) = (each for each in caplog.records if each.message == "A request was refused before it was read")
    assert vars(record)["remote"] == "127.0.0.1"


async def test_health_names_what_the_gateway_needs(port: int) -> None:
    status, _, body = parts(await exchange(port, ending(request(b"/health"))))
    health = json.loads(body)
    assert (status, health["status"]) == (503, "unhealthy")
    assert isinstance(health["timestamp"], int)
    assert health["services"].keys() == {"discovery", "registry"}
    assert health["services"]["registry"] == {"status": "unhealthy", "reason": "ConnectionError: not registered yet"}
