"""One client's share of a service's places is limited, whatever it occupies them with; others are served."""

import asyncio
import resource
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import cast

import pytest
from api_gateway import proxy as proxy_module
from api_gateway import tunnel, upstream
from api_gateway.directory import Directory
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from api_gateway.routes import RouteTable
from api_gateway.settings import Routing
from api_gateway.shares import KEY_LIMIT_BYTES, PLACES, SHARE, Shares, client_key
from prometheus_client import REGISTRY
from servicekit.asgi import Headers, Message, Receive, Scope, Send
from servicekit.problems import Problem
from servicekit.settings import Auth, Cache
from servicekit.tokens import UnknownKeyError, Verifier

from tests.process.gateway.conftest import Gateway, head
from tests.process.gateway.test_proxy import GET, ask, echo, status
from tests.process.gateway.test_websockets import ACCEPT, OPEN

PIECE_S = 0.02
"""Seconds between two pieces of an endless answer: the other requests are served meanwhile."""
GREEDY, OTHER = "127.0.0.2", "127.0.0.3"
SLOW_BODY = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 29\r\n\r\ng"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the connect timeouts: all ends of all connections share this process, which may be slow."""
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT_S", 60)
    monkeypatch.setattr(tunnel, "CONNECT_TIMEOUT_S", 60)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Raise the limit of open files to allow a thousand connections and their other ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def instance(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer /s/1 at once, and keep every other request open."""
    while received := await head(reader):
        if b"upgrade: websocket" in received.lower():
            writer.write(ACCEPT)
            await reader.read()
        elif received.startswith(b"GET /s/endless"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                await asyncio.sleep(PIECE_S)
        elif received.startswith(b"GET /s/1"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        else:
            await reader.read()


async def connect(port: int, client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(client, 0), limit=1024)


@asynccontextmanager
async def held(
    port: int, request: bytes, number: int, client: str = GREEDY
) -> AsyncGenerator[list[asyncio.StreamReader]]:
    """Yield connections of one client, each with a request that keeps its place."""
    connections = [await connect(port, client) for _ in range(number)]
    try:
        for _, writer in connections:
            writer.write(request)
        yield [reader for reader, _ in connections]
    finally:
        for _, writer in connections:
            writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(60):
        return await reader.readuntil(b"\r\n\r\n")


async def served(port: int, client: str = OTHER, request: bytes = GET) -> int:
    reader, writer = await connect(port, client)
    try:
        writer.write(request)
        return status(await answer(reader))
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - gauges have no event
            await asyncio.sleep(0.01)


def in_flight(service: str = "s") -> float:
    return REGISTRY.get_sample_value("gateway_in_flight", {"service": service}) or 0


def shed(reason: str) -> float:
    return REGISTRY.get_sample_value("gateway_shed_total", {"reason": reason}) or 0


async def test_a_thousand_slow_bodies_of_one_client_hinder_no_other(gateway: Gateway) -> None:
    port = await gateway(instance)
    async with held(port, SLOW_BODY, PLACES):
        assert {await served(port) for _ in range(20)} == {200}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(SLOW_BODY, id="slow body"),
        pytest.param(b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", id="slow chunks"),
        pytest.param(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n" + b"x" * 70000, id="slow rest"),
        pytest.param(OPEN, id="idle WebSocket"),
        pytest.param(b"GET /s/endless HTTP/1.1\r\nHost: h\r\n\r\n", id="slow reader"),
        pytest.param(b"GET /s/hang HTTP/1.1\r\nHost: h\r\n\r\n", id="slow instance"),
    ],
)
async def test_a_client_beyond_its_share_is_refused_alone(gateway: Gateway, request_: bytes) -> None:
    port = await gateway(instance)
    before = shed("client")
    async with held(port, request_, SHARE):
        await until(lambda: in_flight() == SHARE)
        async with held(port, request_, 5) as refused:
            for reader in refused:
                said = await answer(reader)
                assert status(said) == 429
                assert b"\r\nretry-after: 1\r\n" in said
        assert await served(port, GREEDY) == 429
        assert await served(port, OTHER) == 200
        assert in_flight() == SHARE
    assert shed("client") == before + 6
    await until(lambda: in_flight() == 0)
    assert await served(port, GREEDY) == 200


async def test_tokens_whose_keys_are_fetched_have_a_share_too(gateway: Gateway) -> None:
    class Fetching(Verifier):
        """A verifier that knows no key, and waits for the keys of another issuer."""

        def claims(self, authorization: str | None) -> None:  # noqa: ARG002 - Verifier's
            raise UnknownKeyError("https://other.example")

        async def authenticate(self, authorization: str | None) -> None:  # noqa: ARG002 - Verifier's
            await asyncio.Event().wait()

    port = await gateway(instance, auth="required", verifier=Fetching(Auth(required=False)))
    request = GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer x\r\n\r\n")
    async with held(port, request, SHARE):
        await until(lambda: in_flight() == SHARE)
        assert await served(port, GREEDY, request) == 429
        async with held(port, request, 1, OTHER):
            await until(lambda: in_flight() == SHARE + 1)


async def test_a_request_that_meets_an_error_of_ours_keeps_no_place(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await gateway(instance)
    assert await served(port) == 200  # there is a connection for the next one
    met: list[object] = []

    def failing(*_: object) -> None:
        met.append(_)
        raise ZeroDivisionError

    monkeypatch.setattr(proxy_module, "begin_attempt", failing)
    with suppress(asyncio.IncompleteReadError):
        assert await served(port) >= 400
    assert met
    await until(lambda: in_flight() == 0)


@pytest.fixture
def proxy() -> Proxy:
    """Return a proxy without routes; its own endpoints never answer, except /health."""
    directory = cast("Directory", SimpleNamespace(table=RouteTable(()), services={}))
    trusted = Peers(Routing(trusted="10.0.0.0/24").networks())
    return Proxy(waiting, directory, Verifier(Auth(required=False)), trusted, RateLimits(Cache()))


async def waiting(scope: Scope, _: Receive, send: Send) -> None:
    if scope["path"] != "/health":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask_own(proxy: Proxy, client: str, path: str = "/auth/token", headers: Headers | None = None) -> int:
    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": headers or [], "client": (client, 1)}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await proxy(scope, nothing, send)
    return sent[0]["status"]


async def nothing() -> Message:
    return {"type": "http.disconnect"}


async def test_own_endpoints_have_shares_and_health_needs_none(proxy: Proxy) -> None:
    async with asyncio.TaskGroup() as tasks:
        greedy = [tasks.create_task(ask_own(proxy, GREEDY)) for _ in range(SHARE)]
        await until(lambda: in_flight("api-gateway") == SHARE)
        assert await ask_own(proxy, GREEDY) == 429
        assert await ask_own(proxy, GREEDY, "/health") == 204
        other = tasks.create_task(ask_own(proxy, OTHER))
        await until(lambda: in_flight("api-gateway") == SHARE + 1)
        for task in (*greedy, other):
            task.cancel()
    assert in_flight("api-gateway") == 0


async def test_a_trusted_peer_is_no_client(proxy: Proxy) -> None:
    async with asyncio.TaskGroup() as tasks:
        silent = [tasks.create_task(ask_own(proxy, "10.0.0.1")) for _ in range(SHARE + 1)]
        await until(lambda: in_flight("api-gateway") == SHARE + 1)
        said: Headers = [(b"x-forwarded-for", b"192.0.2.7")]
        named = [tasks.create_task(ask_own(proxy, "10.0.0.1", headers=said)) for _ in range(SHARE)]
        await until(lambda: in_flight("api-gateway") == 2 * SHARE + 1)
        assert await ask_own(proxy, "10.0.0.1", headers=said) == 429
        for task in (*silent, *named):
            task.cancel()


async def test_a_rate_limit_counts_no_client_that_a_trusted_peer_does_not_name(gateway: Gateway) -> None:
    port = await gateway(echo, trusted="127.0.0.0/8", rate_limit={"requests": 1})

    async def answered(said: bytes) -> int:
        return status(await ask(port, GET[:-2] + said + b"Connection: close\r\n\r\n"))

    for said in (b"", b"X-Forwarded-For: rubbish\r\n") * 2:
        assert await answered(said) == 200
    named = b"X-Forwarded-For: 192.0.2.7:1234\r\n"
    assert [await answered(named), await answered(named)] == [200, 429]


def test_a_service_that_is_full_takes_no_place_of_another() -> None:
    counts = Shares()
    places = [counts.take("full", f"client {number}") for number in range(PLACES)]
    with pytest.raises(Problem) as refused:
        counts.take("full", "one more")
    assert (refused.value.kind.status, refused.value.headers) == (503, {"Retry-After": "1"})
    counts.take("empty", "one more").release()
    places[0].release()
    places[0].release()
    counts.take("full", "one more")
    with pytest.raises(Problem):
        counts.take("full", "client 0")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "unknown", True),
        ("x" * 100_000, "192.0.2.1:80", True),
    ],
)
def test_an_address_stands_for_its_network(one: str, other: str, *, same: bool) -> None:
    assert (client_key(None, one) == client_key(None, other)) is same


CLAIMS = {"iss": "estate", "sub": "7"}


@pytest.mark.parametrize(
    "other",
    [
        CLAIMS | {"sub": "8"},
        CLAIMS | {"iss": "https://login.example.com"},
        {"iss": "estate", "sub": "192.0.2.1"},
        {"iss": "estate"},
        {"iss": "estate", "sub": ""},
        {"iss": "x':'7", "sub": ""},
    ],
)
def test_a_subject_is_another_client_than(other: dict[str, str]) -> None:
    assert client_key(CLAIMS, "192.0.2.1") != client_key(other, "192.0.2.1")


def test_a_token_without_a_subject_counts_as_none() -> None:
    assert client_key({"iss": "estate"}, "192.0.2.1") == client_key(None, "192.0.2.1")


def test_keys_are_bounded_and_stay_apart() -> None:
    subjects = ["x" * length for length in (1, 100, 128, 129, 3000)] + ["é" * 3000, "\ud800" * 3000]
    keys = {client_key({"iss": "estate", "sub": subject}, "") for subject in subjects}
    assert len(keys) == len(subjects)
    assert all(len(key.encode()) <= KEY_LIMIT_BYTES for key in keys)
