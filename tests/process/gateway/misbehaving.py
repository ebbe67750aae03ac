"""Instances that misbehave, and the invariants that hold in every case.

`python -m tests.process.gateway.misbehaving --minutes 30` tries mutations at length.
"""

import argparse
import asyncio
import logging
import os
import random
import socket
import struct
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from unittest.mock import patch

import h11
from api_gateway import upstream
from api_gateway.directory import Directory
from api_gateway.discovery import Instance
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from api_gateway.routes import Route, RouteTable
from api_gateway.service import UpstreamService
from prometheus_client import REGISTRY
from servicekit.observation import Observed
from servicekit.settings import Auth, Cache
from servicekit.tokens import Verifier

from tests.process.gateway.conftest import head, own, serve

AT_ONCE = 24
"""Concurrent cases, each with a service of its own."""
BRIEF_S, QUICK_S, GOOD_S = 0.3, 30.0, 60.0
"""Timeouts of the routes in seconds: for a case that has to run into it, for one that has to end before it, and for good requests."""
SLACK_S = 10.0
"""Seconds allowed beyond a timeout, on a busy machine."""
ENDLESS_BYTES = 4 * 1024 * 1024
End = Literal["stall", "close", "reset"]
MARK = "An instance failed"
tried = 0
"""Count of exchanges with an instance that misbehaves, for the summary."""


@dataclass(frozen=True)
class Case:
    """The behaviour of an instance for one request.

    Args:
        name: the name of the case.
        answer: the bytes to send.
        end: the action after them.
        statuses: the statuses that the client may get.
        method: the method of the request.
        warm: whether the connection was used for a good exchange before.
        sound: whether the answer is correct, so that the connection may be kept.
        lines: the allowed numbers of lines in the log.
        parts: the number of pieces to send the answer in.
        then: bytes repeated after the answer without an end.
    """

    name: str
    answer: bytes
    end: End
    statuses: frozenset[int]
    method: str = "GET"
    warm: bool = False
    sound: bool | None = False
    lines: tuple[int, ...] = (1,)
    parts: int = 1
    then: bytes = b""


@dataclass
class Result:
    """An answer as the client received it."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    body: bytes = b""
    whole: bool = False
    wrong: str = ""


class Client:
    """A client with one connection, which it reopens after it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._parser = h11.Connection(h11.CLIENT)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str) -> Result:
        """Return the answer to a request."""
        if self._streams is None:
            self._streams = await self._connect()
            self._parser = h11.Connection(h11.CLIENT)
        reader, writer = self._streams
        body = b"body" if method in ("POST", "PUT") else b""
        fields = [("host", "h"), *([("content-length", str(len(body)))] if body else [])]
        sent = self._parser.send(h11.Request(method=method, target=target, headers=fields)) or b""
        sent += (self._parser.send(h11.Data(body)) if body else b"") or b""
        writer.write(sent + (self._parser.send(h11.EndOfMessage()) or b""))
        result = Result()
        try:
            await self._read(reader, result)
        except h11.RemoteProtocolError as error:
            # An instance can cause an early end of the connection, but not bytes that are not HTTP.
            result.wrong = "" if reader.at_eof() else f"the gateway's answer is not HTTP: {error}"
        except ConnectionError:
            pass
        if not result.whole or self._parser.our_state is not h11.DONE or self._parser.their_state is not h11.DONE:
            self.close()
        else:
            self._parser.start_next_cycle()
        return result

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionError:  # more connect at once than the kernel's backlog holds; the case's deadline ends it
                await asyncio.sleep(0.05)

    async def _read(self, reader: asyncio.StreamReader, result: Result) -> None:
        while not result.whole:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                self._parser.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                result.status, result.headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                result.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                result.whole = True
            else:
                return

    def close(self) -> None:
        """Close the connection."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


class Slot:
    """A runner of one case after the other with one service of the gateway's."""

    def __init__(self, name: str, stage: "Stage") -> None:
        self.name = name
        self.stage = stage
        self.service = UpstreamService(name)
        self.case: Case
        self.open = 0
        """Connections that played the case and that the gateway has not closed."""
        self.reused = False
        self.changed = asyncio.Event()
        self.lines: list[logging.LogRecord] = []

    async def run(self, case: Case) -> Iterable[str]:
        """Run a case, and return the violations."""
        self.case, self.open, self.lines, self.reused = case, 0, [], False
        self.service = self.stage.services[self.name] = UpstreamService(self.name)
        self.service.set_instances([Instance("one", "127.0.0.1", self.stage.instance_port)])
        client = Client(self.stage.port)
        waits = HTTPStatus.GATEWAY_TIMEOUT in case.statuses
        wrong: list[str] = []
        try:
            async with asyncio.timeout(QUICK_S + SLACK_S + GOOD_S):
                if case.warm:
                    wrong += self.good(await client.ask("GET", f"/good/{self.name}/warm"), "warm")
                started = time.monotonic()
                result = await client.ask(case.method, f"/{'brief' if waits else 'quick'}/{self.name}")
                if time.monotonic() - started > 2 * BRIEF_S + SLACK_S:
                    wrong.append(f"it took {time.monotonic() - started:.1f} s")
                wrong += self.judge(result)
                wrong += self.good(await client.ask("GET", f"/good/{self.name}/next"), "next")
                wrong += await self.settle(result)
        except TimeoutError:
            wrong.append("it did not end")
        finally:
            client.close()
            self.service.close()
        return [f"{case.name} ({case.method}, {'warm' if case.warm else 'cold'}, {case.end}): {what}" for what in wrong]

    def good(self, result: Result, marker: str) -> Iterator[str]:
        """Yield the violations in the answer to a request that has nothing to do with the case."""
        if (result.status, result.body, result.whole) != (200, f"{self.name} {marker}".encode(), True):
            reasons = [vars(line)["reason"] for line in self.lines]
            yield f"the {marker} request got {result}; {reasons}"

    def judge(self, result: Result) -> Iterator[str]:
        """Yield the violations in the answer to the request that the case is about."""
        if result.wrong:
            yield result.wrong
        if result.status not in self.case.statuses:
            yield f"status {result.status}, not one of {sorted(self.case.statuses)}"
        if b"injected" in result.headers:
            yield "a header was injected"
        own_answer = self.case.sound is False and result.whole and result.status in (502, 504)
        if own_answer and self.case.method != "HEAD" and b"problems" not in result.body:
            yield f"the gateway's own answer has another's body: {result.body!r}"

    async def settle(self, result: Result) -> list[str]:
        """Return the violations that are left behind: open connections, unexpected log lines, requests in flight."""
        wrong: list[str] = []
        if not self.case.sound:
            with suppress(TimeoutError):
                async with asyncio.timeout(SLACK_S):
                    while self.open:
                        self.changed.clear()
                        await self.changed.wait()
            failed = self.lines or not result.whole
            if self.open and (self.case.sound is False or failed):
                wrong.append("the connection to the instance is still there")
        if len(self.lines) not in self.case.lines:
            wrong.append(f"{len(self.lines)} lines in the log: {[vars(line)['reason'] for line in self.lines]}")
        for line in self.lines:
            said = vars(line)
            known = (said["upstream"], said["instance"], said["request_id"].encode(), bool(said["reason"]))
            wanted = (self.name, "one", result.headers.get(b"x-request-id", b"none"), True)
            if known != wanted or line.levelno != logging.WARNING:
                wrong.append(f"the line says {known}, not {wanted}")
        if self.reused:
            wrong.append("the connection to the instance was used again")
        if self.service.in_flight:
            wrong.append(f"{self.service.in_flight} requests are still in flight")
        return wrong

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Act as the instance that misbehaves; return the head of the next request on the same connection."""
        global tried
        tried += 1
        self.open += 1
        case = self.case
        try:
            size = -(-len(case.answer) // case.parts) or 1
            for start in range(0, len(case.answer), size):
                writer.write(case.answer[start : start + size])
                await writer.drain()
                await asyncio.sleep(0.002 if case.parts > 1 else 0)
            for _ in range(ENDLESS_BYTES // len(case.then) if case.then else 0):
                writer.write(case.then)
                await writer.drain()
            if case.end == "reset":
                peer: socket.socket = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            elif case.end == "stall":
                received = await head(reader)
                # With several pieces, the rest may arrive when the next request is on its way.
                self.reused = self.reused or bool(received and case.sound is False and case.parts == 1)
                return received
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            self.changed.set()
        return b""


class Stage(logging.Handler):
    """A gateway before one server that is every instance, and the lines that the gateway logs about them."""

    def __init__(self) -> None:
        super().__init__()
        self.services: dict[str, UpstreamService] = {}
        self.slots = {f"s{number}": Slot(f"s{number}", self) for number in range(AT_ONCE)}
        self.port = self.instance_port = 0
        self.errors: list[str] = []
        """Log lines that no instance should be able to cause: errors, and tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if record.getMessage() == MARK:
            self.slots[vars(record)["upstream"]].lines.append(record)
        if record.exc_info or record.levelno >= logging.ERROR:
            self.errors.append(f"a line of {record.name}: {self.format(record)}")

    def tick(self, now: float) -> None:
        """Update the services, as the gateway's directory does."""
        for service in self.services.values():
            service.tick(now)

    async def instance(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer good requests correctly, and all others as the case says."""
        with suppress(ConnectionError):
            received = await head(reader)
            while received:
                method, _, rest = received.partition(b" ")
                kind, name, *marker = rest.split(b" ")[0].decode().strip("/").split("/")
                if method == b"POST":
                    await reader.readexactly(4)
                slot = self.slots[name]
                if kind != "good":
                    received = await slot.play(reader, writer)
                    continue
                body = f"{name} {marker[0]}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                received = await head(reader)
        writer.close()


@asynccontextmanager
async def stages() -> AsyncGenerator[Stage]:
    """Yield a gateway, and the server behind it."""
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(upstream, "CONNECT_TIMEOUT_S", SLACK_S))  # all instances here are reachable
        stage = Stage()
        server = await asyncio.start_server(stage.instance, "127.0.0.1", 0, backlog=1024)
        stack.callback(server.close)
        stage.instance_port = server.sockets[0].getsockname()[1]
        kinds = {"brief": BRIEF_S, "quick": QUICK_S, "good": GOOD_S}
        routes = tuple(
            Route.model_validate({"prefix": f"/{kind}/{name}", "service": name, "auth": "none", "timeout_s": timeout_s})
            for kind, timeout_s in kinds.items()
            for name in stage.slots
        )
        directory = SimpleNamespace(table=RouteTable(routes), services=stage.services, tick=stage.tick)
        proxy = Proxy(own, cast("Directory", directory), Verifier(Auth(required=False)), Peers(()), RateLimits(Cache()))
        await proxy.open()
        stack.push_async_callback(proxy.close)
        stage.port = await serve(stack, Observed(proxy, "api-gateway"))
        logger = logging.getLogger()
        logger.addHandler(stage)
        stack.callback(logger.removeHandler, stage)
        yield stage


async def play(cases: Iterable[Case]) -> list[str]:
    """Run cases, AT_ONCE of them concurrently; return their violations, and those that are left behind at the end."""
    queue = iter(cases)
    wrong: list[str] = []

    async def work(slot: Slot) -> None:
        for case in queue:
            wrong.extend(await slot.run(case))

    async with stages() as stage:
        await asyncio.gather(*(work(slot) for slot in stage.slots.values()))
        with suppress(TimeoutError):
            async with asyncio.timeout(SLACK_S):
                while any(gauges(stage).values()):  # noqa: ASYNC110 - a gauge has no event
                    await asyncio.sleep(0.02)
        wrong += [f"{name} is {value}" for name, value in gauges(stage).items() if value]
        wrong += stage.errors
        for service in stage.services.values():
            service.forget()
    return wrong


def gauges(stage: Stage) -> dict[str, float | None]:
    """Return the gauges of requests in flight to the services of a stage."""
    services = {
        f"{sample.name} of {sample.labels['service']}": sample.value
        for metric in REGISTRY.collect()
        if metric.name in ("gateway_in_flight", "gateway_upstream_in_flight")
        for sample in metric.samples
        if sample.labels["service"] in stage.services
    }
    return {"active_requests": REGISTRY.get_sample_value("active_requests")} | services


SOUND: dict[str, bytes] = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\nTrailer: 1\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
    "bodiless": b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n",
}
"""Correct answers, from which the incorrect ones are made."""


def mutated(generator: random.Random) -> Case:
    """Return a random case: a correct answer with some bytes changed."""
    answer = generator.choice(list(SOUND.values()))
    for _ in range(generator.randint(1, 4)):
        at, size = generator.randrange(len(answer) + 1), generator.randint(0, 6)
        piece = generator.choice(
            [
                b"",
                b"\r",
                b"\n",
                b"\r\n",
                b"\r\n\r\n",
                b"\0",
                b" ",
                b":",
                b"0",
                b"9",
                b"-",
                b"\xff",
                answer[at : at + 30],
            ]
        )
        answer = answer[:at] + piece + answer[at + size :]
    return any_case(answer, generator.choice(["stall", "close", "reset"]), generator.choice(["GET", "HEAD", "POST"]), generator.random() < 0.5)  # fmt: skip


def any_case(answer: bytes, end: End, method: str, warm: bool) -> Case:  # noqa: FBT001 - data
    """Return a case that only the general invariants apply to."""
    statuses = frozenset(range(200, 600))
    return Case(repr(answer), answer, end, statuses, method, warm, sound=None, lines=(0, 1))


def at_length(seed: int, minutes: float) -> Iterator[Case]:
    """Yield mutations until the time is over."""
    generator, end = random.Random(seed), time.monotonic() + 60 * minutes  # noqa: S311 - no secret
    while time.monotonic() < end:
        yield mutated(generator)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutations for some minutes; print the violations, and the seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given: Any = parser.parse_args(arguments)
    logging.getLogger().addHandler(logging.NullHandler())  # otherwise there would be a line for each of thousands
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        wrong = asyncio.run(play(at_length(given.seed, given.minutes)))
    print(*islice(wrong, 50), f"seed {given.seed}: {tried} exchanges, {len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
