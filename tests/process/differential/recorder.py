"""The service behind a proxy: it records every byte that reaches it, parses it strictly, and answers from a script."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field

from tests.process.differential.case import ECHO, Script, When
from tests.process.differential.reading import TOKEN, Headers

CANARY = b"/s/canary/"
LIMIT_BYTES = 2**24
"""Maximum bytes of a head, more than any proxy lets through."""


@dataclass
class Received:
    """A request as it reached the service.

    Args:
        number: the number of the request among all that reached this recorder.
        connection: the number of the connection that it came on.
        raw: its bytes.
        flaws: parts that a service could read differently from the proxy.
    """

    number: int
    connection: int
    raw: bytearray
    method: bytes = b""
    target: bytes = b""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    trailers: Headers = field(default_factory=Headers)
    whole: bool = False
    unanswered: bool = False
    """A flag: the service closed the connection without an answer, so that an idempotent request may be sent again."""
    flaws: list[str] = field(default_factory=list[str])

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        return [value for key, value in self.headers if key == name]


class Recorder:
    """A recording service on loopback."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.script: Script = ECHO
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0, limit=LIMIT_BYTES)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end the exchanges under way."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            while first := await reader.read(1):
                received = Received(len(self.received), connection, bytearray(first))
                self.received.append(received)
                script = await self._exchange(received, reader, writer)
                if script is None or script.close:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _exchange(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Script | None:
        """Read one request and answer it; return None where it cannot be read, so that the connection has no next one."""
        try:
            received.raw += await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            received.raw += error.partial
            received.flaws.append("no whole head")
            return None
        parse_head(received)
        script = ECHO if received.target.startswith(CANARY) else self.script
        if received.flaws:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            return None
        if script.when is When.HEAD:
            self._answer(received, script, writer)
            if script.close:
                return script
        await read_body(received, reader)
        if not received.whole:
            return None
        if script.when is When.END:
            self._answer(received, script, writer)
        return script

    def _answer(self, received: Received, script: Script, writer: asyncio.StreamWriter) -> None:
        received.unanswered = not script.answer
        answer = script.answer
        if received.method == b"HEAD" and script is ECHO:
            answer = answer.removesuffix(b"recorded")
        with suppress(ConnectionError):
            writer.write(answer.replace(b"{number}", b"%d" % received.number))


def parse_head(received: Received) -> None:
    """Parse a head strictly: everything that two services could read differently is a flaw."""
    flaws = received.flaws
    lines = bytes(received.raw).removesuffix(b"\r\n\r\n").split(b"\r\n")
    if any(re.search(rb"[\x00\r\n]", line) for line in lines):
        flaws.append("a bare CR or LF, or NUL")
    words = lines[0].split(b" ")
    if len(words) != 3 or not TOKEN.fullmatch(words[0]) or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        flaws.append("a request line that is none")
        return
    received.method, received.target = words[0], words[1]
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            flaws.append("a field line that is none")
        received.headers.append((name.lower(), value.strip(b" \t")))
    if len(received.values(b"host")) != 1:
        flaws.append("not one Host")
    lengths, codings = received.values(b"content-length"), received.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        flaws.append("framed in more than one way")
    if any(not length.isdigit() for length in lengths) or any(coding != b"chunked" for coding in codings):
        flaws.append("framed in no way")


async def read_body(received: Received, reader: asyncio.StreamReader) -> None:
    """Read the body that a head declares; one that ends early is not marked as whole."""
    try:
        if received.values(b"transfer-encoding"):
            await read_chunks(received, reader)
        else:
            left = int(next(iter(received.values(b"content-length")), b"0").lstrip(b"0") or b"0")
            while left:
                part = await reader.read(min(left, 2**16))
                if not part:
                    return
                received.raw += part
                received.body += part
                left -= len(part)
            received.whole = True
    except asyncio.IncompleteReadError as error:
        received.raw += error.partial


async def read_chunks(received: Received, reader: asyncio.StreamReader) -> None:
    """Read a chunked body and its trailers."""
    while True:
        line = await reader.readuntil(b"\r\n")
        received.raw += line
        size_text = line.removesuffix(b"\r\n").partition(b";")[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
            received.flaws.append("a chunk size that is none")
            return
        size = int(size_text, 16)
        if not size:
            break
        data = await reader.readexactly(size + 2)
        received.raw += data
        if not data.endswith(b"\r\n"):
            received.flaws.append("a chunk that is longer than its size")
            return
        received.body += data[:-2]
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        received.raw += line
        name, _, value = line.partition(b":")
        received.trailers.append((name.lower(), value.strip()))
    received.raw += line
    received.whole = True
