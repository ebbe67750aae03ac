"""A process that attacks a gateway from one loopback address for a limited time, and prints the outcomes.

`python -m tests.process.strangers.attacks PORT TOKEN SECONDS KIND…` with kinds of ATTACKS.
"""

import asyncio
import itertools
import json
import os
import resource
import socket
import sys
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

ADDRESS = "127.0.0.2"
PAUSE_S = 0.1
"""Seconds between two connections of one attacker, so that it does not run out of ports."""
PATIENCE_S = 120
"""Seconds within which all connections are made, on a busy machine."""
CONNECTIONS = "connections"
"""Name under which connections are counted, as an outcome is."""
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Attack:
    """A kind of abuse.

    Args:
        run: the abuse on one connection; returns its outcome.
        connections: the number of concurrent connections.
    """

    run: "Callable[[Target, Reader, Writer], Awaitable[str]]"
    connections: int


@dataclass(frozen=True)
class Target:
    """The gateway, and a token of one of its clients."""

    port: int
    token: str

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[tuple[Reader, Writer]]:
        """Yield a connection, and abort it afterwards."""
        with socket.socket() as one:
            # The receive buffer is small, so that a client that does not read is noticed.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)  # noqa: FBT003
            one.bind((ADDRESS, 0))
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self.port))
            reader, writer = await asyncio.open_connection(sock=one.dup(), limit=1024)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def head(self, request: str, *lines: str) -> bytes:
        """Return a head with the token."""
        fields = (f"{request} HTTP/1.1", "Host: h", f"Authorization: Bearer {self.token}", *lines, "", "")
        return "\r\n".join(fields).encode()


async def status(reader: Reader) -> str:
    """Return the status of the answer, after reading its body."""
    line = await reader.readline()
    size = 0
    while (header := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    while size > 0 and (read := await reader.read(min(size, 65536))):
        size -= len(read)
    return line.split()[1].decode() if line else "closed"


async def until_closed(reader: Reader, writer: Writer, sent: bytes) -> str:
    """Send a little each second, until the gateway answers or closes the connection; return the outcome."""
    answer = asyncio.create_task(status(reader))
    try:
        while not answer.done():
            writer.write(sent)
            await asyncio.wait({answer}, timeout=1)
        return await answer
    finally:
        answer.cancel()


async def slow_head(_: Target, reader: Reader, writer: Writer) -> str:
    writer.write(b"GET /s/1 HTTP/1.1\r\nHost: h\r\nX-Slow: ")
    return await until_closed(reader, writer, b"x")


async def slow_body(target: Target, reader: Reader, writer: Writer) -> str:
    writer.write(target.head("POST /s/1", "Content-Length: 100000"))
    return await until_closed(reader, writer, b"x")


async def slow_anonymous_body(_: Target, reader: Reader, writer: Writer) -> str:
    writer.write(b"POST /open/1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    return await until_closed(reader, writer, b"1\r\nx\r\n")


async def slow_reader(target: Target, reader: Reader, writer: Writer) -> str:
    writer.write(target.head("GET /s/endless"))
    return await until_closed(asyncio.StreamReader(), writer, b"") if await reader.read(12) else "closed"


async def idle_websocket(target: Target, reader: Reader, writer: Writer) -> str:
    writer.write(target.head("GET /s/1", "Connection: Upgrade", "Upgrade: websocket"))
    answer = await status(reader)
    return f"101, {await status(reader)}" if answer == "101" else answer


async def large_agent(target: Target, reader: Reader, writer: Writer) -> str:
    return await ask(reader, writer, target.head("GET /s/1", f"User-Agent: {next(NUMBERS)}" + "x" * 900_000))


async def large_head(_: Target, reader: Reader, writer: Writer) -> str:
    writer.write(b"GET /s/1 HTTP/1.1\r\nHost: h\r\n")
    for number in range(9000):
        writer.write(b"X-%d: " % number + b"x" * 90 + b"\r\n")
        await writer.drain()
    return await ask(reader, writer, b"\r\n")


async def slashes(_: Target, reader: Reader, writer: Writer) -> str:
    path = ("/health", "/s", "/docs")[next(NUMBERS) % 3] + "/" * 60_000
    return await ask(reader, writer, f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


async def segments(target: Target, reader: Reader, writer: Writer) -> str:
    return await ask(reader, writer, target.head("GET /s" + "/x" * 30_000))


async def long_query(target: Target, reader: Reader, writer: Writer) -> str:
    return await ask(reader, writer, target.head(f"GET /s/1?n={next(NUMBERS)}&" + "a=%41&" * 9000))


async def many_connections(_: Target, reader: Reader, __: Writer) -> str:
    return await status(reader)


async def pipelining(target: Target, reader: Reader, writer: Writer) -> str:
    writer.write(target.head("GET /s/1") * 500)
    await writer.drain()
    return {await status(reader) for _ in range(500)}.pop()


async def pipelining_unread(target: Target, _: Reader, writer: Writer) -> str:
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while True:
                writer.write(target.head("GET /s/1") * 100)
                await writer.drain()
    return "left"


async def slow_token(_: Target, reader: Reader, writer: Writer) -> str:
    form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29"
    writer.write(f"POST /auth/token HTTP/1.1\r\nHost: h\r\n{form}\r\n\r\ng".encode())
    return await status(reader)


async def guessed_secrets(_: Target, reader: Reader, writer: Writer) -> str:
    form = f"grant_type=client_credentials&client_id=x&client_secret={next(NUMBERS)}".encode()
    lines = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d" % len(form)
    return await ask(reader, writer, b"POST /auth/token HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n%b" % (lines, form))


async def request_ids(target: Target, reader: Reader, writer: Writer) -> str:
    lines = [f"X-Request-ID: {next(NUMBERS):0128}", f"traceparent: 00-{next(NUMBERS) + 1:032x}-{1:016x}-01"]
    return await ask(reader, writer, target.head("GET /s/1", *lines, f"User-Agent: {next(NUMBERS):0512}") * 20)


async def bad_tokens(_: Target, reader: Reader, writer: Writer) -> str:
    token = f"{next(NUMBERS)}." * 3 + "x" * (7 ** (next(NUMBERS) % 6))
    return await ask(reader, writer, f"GET /s/1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n".encode())


async def preflights(_: Target, reader: Reader, writer: Writer) -> str:
    lines = f"Origin: https://{next(NUMBERS)}.example\r\nAccess-Control-Request-Method: PUT"
    return await ask(reader, writer, f"OPTIONS /s/1 HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n".encode() * 20)


async def tiny_chunks(target: Target, reader: Reader, writer: Writer) -> str:
    writer.write(target.head("POST /s/1", "Transfer-Encoding: chunked"))
    for _ in range(50):
        writer.write(b"1\r\nx\r\n" * 400)
        await writer.drain()
    return await ask(reader, writer, b"0\r\n\r\n")


async def leaving(target: Target, _: Reader, writer: Writer) -> str:
    writer.write(target.head("GET /s/1") + target.head("POST /s/1", "Content-Length: 10"))
    await writer.drain()
    return "left"


async def documents(_: Target, reader: Reader, writer: Writer) -> str:
    writer.write(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
    return await until_closed(asyncio.StreamReader(), writer, b"") if await reader.read(12) else "closed"


async def ask(reader: Reader, writer: Writer, request: bytes) -> str:
    """Send a request; return the status of the answer, or of the first one."""
    writer.write(request)
    answer = asyncio.create_task(status(reader))
    try:
        with suppress(ConnectionError):
            await writer.drain()
        return await answer
    finally:
        answer.cancel()


ATTACKS = {
    "slow heads": Attack(slow_head, 300),
    "slow bodies": Attack(slow_body, 200),
    "slow bodies without a token": Attack(slow_anonymous_body, 200),
    "slow readers": Attack(slow_reader, 150),
    "idle WebSockets": Attack(idle_websocket, 200),
    "900 kB of User-Agent": Attack(large_agent, 10),
    "9,000 headers": Attack(large_head, 10),
    "60,000 slashes": Attack(slashes, 10),
    "30,000 segments": Attack(segments, 10),
    "long queries": Attack(long_query, 10),
    "many connections": Attack(many_connections, 1500),
    "pipelining": Attack(pipelining, 10),
    "pipelining, unread": Attack(pipelining_unread, 50),
    "/auth/token, one byte": Attack(slow_token, 200),
    "/auth/token, guessed secrets": Attack(guessed_secrets, 10),
    "distinct request ids": Attack(request_ids, 10),
    "bad tokens": Attack(bad_tokens, 10),
    "CORS preflights": Attack(preflights, 10),
    "tiny chunks": Attack(tiny_chunks, 2),
    "clients that leave": Attack(leaving, 10),
    "/docs, unread": Attack(documents, 150),
}


async def repeat(attack: Attack, target: Target, outcomes: Counter[str]) -> None:
    """Attack with one connection after the other."""
    while True:
        try:
            async with target.connection() as (reader, writer):
                outcomes[CONNECTIONS] += 1
                outcome = await attack.run(target, reader, writer)
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome = type(error).__name__
        outcomes[outcome] += 1
        await asyncio.sleep(PAUSE_S)


async def run(target: Target, seconds: float, kinds: list[str]) -> dict[str, Counter[str]]:
    """Attack in these ways at once, for a time and until each has made all its connections; return the count of each outcome."""
    outcomes = {kind: Counter[str]() for kind in kinds}
    tasks = [
        asyncio.create_task(repeat(ATTACKS[kind], target, outcomes[kind]))
        for kind in kinds
        for _ in range(ATTACKS[kind].connections)
    ]
    since = asyncio.get_running_loop().time()
    while (passed_s := asyncio.get_running_loop().time() - since) < PATIENCE_S:
        if passed_s > seconds and all(outcomes[kind][CONNECTIONS] >= ATTACKS[kind].connections for kind in kinds):
            break
        await asyncio.sleep(PAUSE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes


def main() -> None:
    """Attack, and print the outcomes."""
    port, token, seconds, *kinds = sys.argv[1:]
    os.nice(5)  # the gateway is measured, not the scheduling of the CPU
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(run(Target(int(port), token), float(seconds), kinds))))


if __name__ == "__main__":
    main()
