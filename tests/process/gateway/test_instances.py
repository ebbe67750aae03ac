"""Instances that come, leave and close connections, with the gateway's real directory before a scripted agent of Consul."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from api_gateway import directory as directories
from api_gateway import discovery
from api_gateway.directory import Directory
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from prometheus_client import REGISTRY
from servicekit.observation import Observed
from servicekit.settings import Auth, Cache, Registry
from servicekit.tokens import Verifier

from tests.process.gateway.conftest import Behaviour, Gateway, answering, closing, head, own, serve
from tests.process.gateway.test_proxy import GET, ask, status

pytestmark = pytest.mark.filterwarnings("ignore:verify_ssl is deprecated")  # used by Consul's client
PATIENCE_S = 20
POST = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


async def until(done: Callable[[], bool]) -> None:
    """Return once a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


def entry(number: int, port: int) -> dict[str, Any]:
    return {
        "Node": {"Address": "127.0.0.1"},
        "Service": {"ID": str(number), "Address": "127.0.0.1", "Port": port},
        "Checks": [{"Status": "passing"}],
    }


@dataclass
class Consul:
    """An agent of Consul that answers every query at once with a body set by the test."""

    body: bytes = b"[]"
    head: bytes = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Type: application/json\r\n"
    asked: int = 0
    port: int = 0
    ports: list[int] = field(default_factory=list[int])

    def know(self, *numbers: int) -> None:
        """Return these instances from now on."""
        self.body = json.dumps([entry(number, self.ports[number]) for number in numbers]).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            self.asked += 1
            writer.write(self.head + b"Content-Length: %d\r\n\r\n%b" % (len(self.body), self.body))


@dataclass
class Estate:
    """A gateway, its directory and its agent of Consul."""

    port: int
    consul: Consul
    directory: Directory


@asynccontextmanager
async def estates(folder: Path, *behaviours: Behaviour, **terms: Any) -> AsyncGenerator[Estate]:
    """Yield a gateway that knows its first instance."""
    async with AsyncExitStack() as stack:
        consul = Consul()
        servers = [await asyncio.start_server(closing(b), "127.0.0.1", 0) for b in (*behaviours, consul.serve)]
        for server in servers:
            stack.callback(server.close)
        *consul.ports, consul.port = [server.sockets[0].getsockname()[1] for server in servers]
        consul.know(0)
        file = folder / "routes.json"
        route = {"prefix": "/s", "service": "s", "auth": "none"} | terms
        file.write_text(json.dumps({"routes": [route]}))
        directory = Directory(file, Registry(address=f"127.0.0.1:{consul.port}"))
        proxy = Proxy(own, directory, Verifier(Auth(required=False)), Peers(()), RateLimits(Cache()))
        await directory.start()
        stack.push_async_callback(directory.stop)
        await proxy.open()
        stack.push_async_callback(proxy.close)
        port = await serve(stack, Observed(proxy, "api-gateway"))
        await until(lambda: bool(directory.discoveries["s"].instances))
        yield Estate(port, consul, directory)


Estates = Callable[..., Awaitable[Estate]]


@pytest.fixture
async def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Estates]:
    monkeypatch.setattr(discovery, "RETRY_S", 0.01)
    monkeypatch.setattr(discovery, "LEAST_S", 0.01)
    monkeypatch.setattr(directories, "LOOK_EVERY_S", 0.01)
    async with AsyncExitStack() as stack:
        yield lambda *behaviours, **terms: stack.enter_async_context(estates(tmp_path, *behaviours, **terms))


def in_flight() -> float | None:
    return REGISTRY.get_sample_value("gateway_upstream_in_flight", {"service": "s"})


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_an_instance_that_leaves_is_held_to_the_timeout(estate: Estates) -> None:
    here = await estate(hang, answering(), timeout_s=1)
    asking = asyncio.create_task(ask(here.port, POST, PATIENCE_S))
    await until(lambda: in_flight() == 1)
    here.consul.know(1)
    await until(lambda: here.directory.discoveries["s"].instances[0].id == "1")
    assert in_flight() == 1
    assert status(await asking) == 504
    await until(lambda: in_flight() == 0)
    assert status(await ask(here.port)) == 200


async def test_an_instance_that_comes_back_has_what_it_held(estate: Estates) -> None:
    here = await estate(hang, answering(), timeout_s=2)
    asking = asyncio.create_task(ask(here.port, POST, PATIENCE_S))
    await until(lambda: in_flight() == 1)
    for number in (1, 0):
        here.consul.know(number)
        await until(lambda number=number: here.directory.discoveries["s"].instances[0].id == str(number))
    assert [upstream.in_flight for upstream in here.directory.services["s"].upstreams] == [1]
    assert status(await asking) == 504


async def test_a_service_that_leaves_is_held_to_the_timeout(estate: Estates) -> None:
    here = await estate(hang, timeout_s=1)
    asking = asyncio.create_task(ask(here.port, POST, PATIENCE_S))
    await until(lambda: in_flight() == 1)
    here.directory.file.write_text('{"routes": [{"prefix": "/other", "service": "other"}]}')
    await until(lambda: "s" not in here.directory.services)
    assert status(await asking) == 504
    await until(lambda: in_flight() is None)


async def test_what_an_instance_held_leaves_no_connection(estate: Estates) -> None:
    asked, answer, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        ended.set()

    here = await estate(slow, answering())
    asking = asyncio.create_task(ask(here.port, GET, PATIENCE_S))
    await asked.wait()
    here.consul.know(1)
    await until(lambda: here.directory.discoveries["s"].instances[0].id == "1")
    answer.set()
    assert status(await asking) == 200
    async with asyncio.timeout(PATIENCE_S / 2):
        await ended.wait()


ENTRY = entry(0, 1)
FIELDS: dict[tuple[str, str], list[Any]] = {
    ("Service", "ID"): [None, "", 7, []],
    ("Service", "Port"): [None, "80", 0, -1, 70000, 1.5, True],
    ("Service", "Address"): [None, 7, "a b", "a\nb", "a/b", "x" * 300],
    ("Node", "Address"): [None, 7, "\0"],
}
NONSENSE: list[Any] = [
    *(None, {}, "instances", [None], [[]], [7], [{}], [ENTRY, {}]),
    *([ENTRY | {part: ENTRY[part] | {name: value}}] for (part, name), values in FIELDS.items() for value in values),
    *([{key: value for key, value in ENTRY.items() if key != part}] for part in ENTRY),
    *([ENTRY | {part: None}] for part in ENTRY),
    [ENTRY | {"Service": ENTRY["Service"] | {"Address": ""}, "Node": {"Address": ""}}],
    [ENTRY | {"Checks": [{}]}],
]
BODIES = [
    *(json.dumps(value).encode() for value in NONSENSE),
    b"",
    b"<html>",
    b'[{"Node":',
    b"\xff\xfe",
    b"[" * 100_000,
]
LINE = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
INDEXES = (b"", b"seven", b"-7", b"7.5", b"1e3", b"0x7", b"9" * 40)
HEADS = [
    LINE % 200,
    *(LINE % 200 + b"X-Consul-Index: " + index + b"\r\n" for index in INDEXES),
    *(LINE % code + b"X-Consul-Index: 7\r\n" for code in (400, 403, 429, 500, 599)),
]


async def test_discovery_survives_whatever_consul_answers(estate: Estates) -> None:
    here = await estate(answering(), answering())
    found, consul = here.directory.discoveries["s"], here.consul
    good = (consul.head, consul.body)
    cases = [(consul.head, body) for body in BODIES] + [(first, consul.body) for first in HEADS]
    cases.append((LINE % 404 + b"X-Consul-Index: 7\r\n", b"null"))
    for case in cases:
        consul.head, consul.body = case
        before, asked = found.instances, consul.asked
        await until(lambda asked=asked: consul.asked >= asked + 3)
        assert found.instances == before, case
        with pytest.raises(ConnectionError):
            await here.directory.consul_answers()
        await here.directory.instances_are_known()
        assert status(await ask(here.port)) == 200, case
        consul.head = good[0]
        consul.know(1 if before[0].id == "0" else 0)
        await until(lambda before=before: found.instances != before)
        await until(lambda: found._problem is None)  # pyright: ignore[reportPrivateUsage]
        await here.directory.consul_answers()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 100_000, b"{" * 100_000, b"- " * 5000, b"routes: 7", b"null", b'{"routes": [{}]}'],
)
async def test_the_routes_survive_whatever_their_file_holds(estate: Estates, content: bytes) -> None:
    here = await estate(answering())
    good = here.directory.file.read_bytes()
    here.directory.file.write_bytes(content)
    await until(lambda: here.directory._problem is not None)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ValueError, match=r"^routes\.file: "):
        await here.directory.routes_are_current()
    assert status(await ask(here.port)) == 200
    here.directory.file.write_bytes(good)
    await until(lambda: here.directory._problem is None)  # pyright: ignore[reportPrivateUsage]


async def time_left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the time that the gateway leaves for the request."""
    while received := await head(reader):
        said = next(line for line in received.split(b"\r\n") if line.lower().startswith(b"x-request-timeout-ms"))
        body = said.split(b":")[1].strip()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(
    ("instances", "request_", "share"),
    [
        (1, GET, 1),
        (2, GET, 2),
        (3, GET, 3),
        (9, GET, 3),
        (1, POST, 1),
        (3, POST.replace(b"Length: 2", b"Length: 0")[:-2], 1),
    ],
)
async def test_time_is_shared_only_with_instances_that_can_be_asked(
    gateway: Gateway, instances: int, request_: bytes, share: int
) -> None:
    port = await gateway(*[time_left] * instances, timeout_s=3000)
    for _ in range(3):  # on a new connection, and on a kept one
        left_s = int((await ask(port, request_)).rpartition(b"\r\n")[2]) / 1000
        assert 0.9 * 3000 / share < left_s <= 3000 / share


def closing_kept(seen: list[bytes], *, first: int = 1, abort: bool = False) -> Behaviour:
    """Return an instance that answers some requests on each connection, and closes it as the next one arrives."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(first):
            if not await head(reader):
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if received := await head(reader):
            seen.append(received.split()[0])
        if abort:
            writer.transport.abort()

    return run


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT"])
async def test_a_kept_connection_that_was_given_up_is_no_error(
    gateway: Gateway,
    method: bytes,
    instances: int,
    abort: bool,  # noqa: FBT001
) -> None:
    seen: list[bytes] = []
    port = await gateway(*[closing_kept(seen, abort=abort)] * instances, balance="round_robin")
    request = GET.replace(b"GET", method)
    for _ in range(6):
        assert (await ask(port, request)).startswith(b"HTTP/1.1 200") if method != b"HEAD" else True
    if method != b"HEAD":
        assert seen


async def test_a_kept_connection_that_was_given_up_does_not_send_a_post_again(gateway: Gateway) -> None:
    seen: list[bytes] = []
    port = await gateway(closing_kept(seen))
    assert status(await ask(port)) == 200
    bodiless = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    assert status(await ask(port, bodiless)) == 502  # RFC 9110, section 9.2.2
    assert seen == [b"POST"]


async def test_an_instance_that_closes_every_connection_is_asked_no_more_than_needed(gateway: Gateway) -> None:
    seen: list[bytes] = []
    port = await gateway(closing_kept(seen, first=0))
    assert status(await ask(port)) == 502
    assert seen == [b"GET"]


@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_during_its_upload_is_no_failure_of_the_instance(
    gateway: Gateway, length: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def read(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await head(reader)
        begun.set()
        await reader.read()
        ended.set()

    def failures() -> float:
        return sum(
            sample.value
            for metric in REGISTRY.collect()
            if metric.name == "gateway_upstream_failures"
            for sample in metric.samples
            if sample.name.endswith("_total")
        )

    before = failures()
    _, writer = await asyncio.open_connection("127.0.0.1", await gateway(read))
    writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n1\r\nx\r\n" % length)
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
        writer.close()
        await ended.wait()
    await until(lambda: REGISTRY.get_sample_value("gateway_in_flight", {"service": "s"}) == 0)
    assert failures() == before
    assert not [record for record in caplog.records if record.name == "api_gateway.service"]
