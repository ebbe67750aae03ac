"""One case on one proxy: the client's answers, the requests that the service received, and the result of another client meanwhile."""

import asyncio
import itertools
import re
from contextlib import suppress
from dataclasses import dataclass, field

from tests.process.differential.answers import Answers, read_answers
from tests.process.differential.case import ECHO, Case
from tests.process.differential.reading import End, Reading, read
from tests.process.differential.recorder import CANARY, Received
from tests.process.differential.targets import Target

QUIET_S = 0.15
"""Seconds without an answer, while the proxy serves others, after which it counts as waiting for more of the request. A later answer is read too."""
OWED_S = 0.6
"""Seconds of the same wait where a whole request has no answer yet."""
DEADLINE_S = 20.0
SEGMENT_S = 0.002
"""Seconds between two segments, so that they arrive as two; nothing is wrong where they do not."""
PROBE = b"GET /s/canary/probe HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer probe\r\n\r\n"
_numbers = itertools.count()


@dataclass
class Canary:
    """A request of another client."""

    target: bytes
    token: bytes
    answered: bool = False
    """A flag: its own answer came back to it, whole and alone."""
    detail: str = ""


@dataclass
class Observation:
    """The observations of a case."""

    case: Case
    target: str
    reading: Reading
    raw_answers: bytes = b""
    answers: Answers = field(default_factory=Answers)
    closed: bool = False
    """A flag: the proxy closed the connection before the client did."""
    endless: bool = False
    """A flag: the proxy kept the connection open even after the client had closed its side."""
    probed: bool = False
    """A flag: another request was sent on the connection, which the proxy had left open."""
    received: list[Received] = field(default_factory=list[Received])
    """All requests that reached the service, without the canaries."""
    canaries: list[Canary] = field(default_factory=list[Canary])
    seen_canaries: list[Received] = field(default_factory=list[Received])
    shared: bool = False
    """A flag: a canary came over a connection that had carried a request of the case."""


class Client:
    """A client's connection, which reads all the time."""

    def __init__(self) -> None:
        self.raw = b""
        self.ended = False
        self.changed = asyncio.Event()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None]

    async def open(self, target: Target) -> None:
        """Connect."""
        self._reader, self._writer = await target.connect()
        self._task = asyncio.create_task(self._read())

    async def send(self, *pieces: bytes) -> None:
        """Send segments, unless the proxy has closed the connection."""
        with suppress(ConnectionError):
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(SEGMENT_S)
                self._writer.write(piece)
                await self._writer.drain()

    def end(self) -> bool:
        """End the sending side; return whether that is possible: over TLS, one side cannot be closed alone."""
        can = self._writer.can_write_eof()
        if can:
            with suppress(OSError, RuntimeError):
                self._writer.write_eof()
        return can

    async def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._writer.transport.abort()  # a TLS close would wait for the other side's

    async def wait_until_quiet(self, wait_s: float) -> bool:
        """Return whether data arrived within a time."""
        if self.ended:
            return False
        self.changed.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self.changed.wait()
        except TimeoutError:
            return False
        return True

    async def _read(self) -> None:
        with suppress(ConnectionError):
            while part := await self._reader.read(2**16):
                self.raw += part
                self.changed.set()
        self.ended = True
        self.changed.set()


async def observe(target: Target, case: Case) -> Observation:
    """Send a case to a proxy, and a canary of another client right after it.

    Send a second canary once the case is over, unless another request has shown that its connection is still in order.
    """
    seen = Observation(case, target.name, read(case.raw))
    recorder = target.recorder
    first, recorder.script = len(recorder.received), case.script
    client = Client()
    await client.open(target)
    await client.send(*case.pieces)
    if case.half_close:
        client.end()
    await settle(client, seen, QUIET_S)
    seen.canaries.append(await send_canary(target))
    owed = len(seen.reading.whole) > len(seen.answers.whole)
    await settle(client, seen, OWED_S if owed else QUIET_S)
    if seen.answers.finals and seen.answers.finals[-1].closes:  # a proxy may linger to read what a client still sends
        await until_ended(client)
    seen.closed = client.ended
    if not client.ended and reusable(seen):
        seen.probed = True
        await client.send(PROBE)
        await settle(client, seen, DEADLINE_S)
    if client.end():
        await until_ended(client)
        seen.endless = not client.ended
    note_answers(client, seen)
    await client.close()
    recorder.script = ECHO
    if not seen.probed:
        seen.canaries.append(await send_canary(target))
    window = recorder.received[first:]
    seen.received = [r for r in window if not r.target.startswith(CANARY)]
    seen.seen_canaries = [r for r in window if r.target.startswith(CANARY)]
    own = {r.connection for r in seen.received}
    seen.shared = any(r.connection in own for r in seen.seen_canaries)
    return seen


async def until_ended(client: Client) -> None:
    """Return when the proxy has closed the connection, or after a deadline."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while not client.ended:
                await client.wait_until_quiet(DEADLINE_S)


async def settle(client: Client, seen: Observation, quiet_s: float) -> None:
    """Return when all possible answers have arrived, the connection has ended, or nothing has arrived for a time."""
    wanted = expected(seen)
    while not client.ended:
        note_answers(client, seen)
        if 0 < wanted <= len(seen.answers.whole) or seen.answers.switched:
            return
        if not await client.wait_until_quiet(quiet_s):
            break
    note_answers(client, seen)


def note_answers(client: Client, seen: Observation) -> None:
    """Parse the bytes received so far."""
    seen.raw_answers = client.raw
    for methods in possible_methods(seen.reading, seen.case.raw):
        seen.answers = read_answers(client.raw, methods, ended=client.ended)
        if not seen.answers.rest and not seen.answers.flaws:
            return


def possible_methods(reading: Reading, raw: bytes) -> list[list[bytes]]:
    """Return the possible lists of methods of a client's requests.

    Malformed bytes have no method, so that their refusal may have a body or, as for HEAD, none; empty lines before a request may be skipped
    or not (RFC 9112, section 2.2).
    """
    methods = [message.method for message in reading.messages]
    possible = [methods]
    if reading.malformed.startswith(b"HEAD") and len(reading.whole) == len(methods):
        possible.append([*methods, b"HEAD"])
    if raw[:1] in (b"\r", b"\n"):
        possible.append([])
    return possible


def expected(seen: Observation) -> int:
    """Return the number of answers that a client may wait for."""
    reading = seen.reading
    return len(reading.whole) + (reading.end is End.ERROR) + seen.probed


def reusable(seen: Observation) -> bool:
    """Return whether another request may follow on the connection."""
    reading, answers = seen.reading, seen.answers
    if reading.end is not End.WHOLE or seen.case.half_close or answers.rest or answers.switched:
        return False
    return len(answers.whole) == len(reading.messages) and not answers.whole[-1].closes


async def send_canary(target: Target) -> Canary:
    """Send a request of another client; an answer has to arrive, and to be its own."""
    number = next(_numbers)
    canary = Canary(CANARY + b"%d" % number, b"Bearer canary-%d" % number)
    client = Client()
    try:
        await client.open(target)
        await client.send(
            b"GET %b HTTP/1.1\r\nHost: api.test\r\nAuthorization: %b\r\nConnection: close\r\n\r\n"
            % (canary.target, canary.token)
        )
        async with asyncio.timeout(DEADLINE_S):
            while not client.ended:
                await client.wait_until_quiet(DEADLINE_S)
    except (OSError, TimeoutError) as error:
        canary.detail = f"{type(error).__name__}, after {client.raw[:200]!r}"
        return canary
    finally:
        await client.close()
    answers = read_answers(client.raw, [b"GET"], ended=True)
    numbers = [answer.recorded for answer in answers.whole]
    own = [r.number for r in target.recorder.received if r.target == canary.target and r.whole]
    canary.answered = numbers == own and len(own) == 1 and not answers.rest and not answers.flaws
    if not canary.answered:
        canary.detail = f"got {client.raw[:300]!r}; requests of its own at the service: {own}"
    return canary


def shown(raw: bytes, limit: int = 400) -> str:
    """Return bytes in a readable form."""
    text = re.sub(rb"(.)\1{40,}", lambda m: m[0][:8] + b"...%d..." % len(m[0]), raw)
    return repr(text[:limit])[1:]
