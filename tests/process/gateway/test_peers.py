"""Disturbances of connections by a client or an instance cause no error of the gateway's, and no traceback in its log."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import REGISTRY
from servicekit import bodies

from tests.process.gateway.conftest import Behaviour, Gateway, head
from tests.process.gateway.test_proxy import GET
from tests.process.gateway.test_websockets import ACCEPT, OPEN

DEADLINE_S = 30
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"10000\r\n" + b"x" * 65536 + b"\r\n"
UPLOAD = b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Deed = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def streaming(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer without an end."""
    await head(reader)
    writer.write(CHUNKED)
    while True:
        writer.write(PIECE)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never answer."""
    await reader.read()


async def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and wait for more of the request."""
    await head(reader)
    writer.write(CHUNKED + PIECE)
    await reader.read()


async def opening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a WebSocket, and wait."""
    await head(reader)
    writer.write(ACCEPT)
    await reader.read()


async def opening_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a WebSocket for a client that has left."""
    await head(reader)
    await asyncio.sleep(0.2)
    writer.write(ACCEPT + b"hello")
    await reader.read()


def then(*parts: bytes, end: Callable[[asyncio.StreamWriter], None]) -> Behaviour:
    """Return an instance that sends some bytes, and ends the connection."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        end(writer)

    return run


def close(writer: asyncio.StreamWriter) -> None:
    """End a connection."""
    writer.close()


async def leave_in_silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    reset(writer)


async def leave_in_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1000)
    reset(writer)


async def close_in_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1000)
    writer.close()


async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read until the gateway ends the connection."""
    while await reader.read(65536):
        pass


async def send_no_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1000)
    writer.write(b"no chunk\r\n")
    await stay(reader, writer)


DEEDS: dict[str, tuple[Behaviour, bytes, Deed]] = {
    "client leaves before the answer": (silent, GET, leave_in_silence),
    "client resets in the answer": (streaming, GET, leave_in_the_answer),
    "client closes in the answer": (streaming, GET, close_in_the_answer),
    "client leaves in its upload": (silent, UPLOAD, leave_in_silence),
    "client leaves in its upload and the answer": (begun, UPLOAD, leave_in_the_answer),
    "client stalls in its upload, with the answer begun": (begun, UPLOAD, stay),
    "client sends no chunk, with the answer begun": (begun, UPLOAD, send_no_chunk),
    "instance closes in its answer": (then(CHUNKED, PIECE, end=close), GET, stay),
    "instance resets in its answer": (then(CHUNKED, PIECE, end=reset), GET, stay),
    "instance sends no chunk in its answer": (then(CHUNKED, PIECE, b"no chunk\r\n", end=close), GET, stay),
    "instance stalls in its answer": (begun, GET, stay),
    "instance closes in its answer to an upload": (then(CHUNKED, PIECE, end=close), UPLOAD, stay),
    "client resets a WebSocket": (opening, OPEN, leave_in_silence),
    "client resets a WebSocket that opens": (opening_late, OPEN, leave_in_silence),
    "instance closes an open WebSocket": (then(ACCEPT, b"hello", end=close), OPEN, stay),
    "instance resets an open WebSocket": (then(ACCEPT, b"hello", end=reset), OPEN, stay),
    "instance resets in the head of a WebSocket": (then(ACCEPT[:20], end=reset), OPEN, stay),
    "instance opens a WebSocket with rubbish": (then(b"rubbish\r\n\r\n", end=close), OPEN, stay),
}


def total(name: str) -> float:
    """Return the sum of a metric."""
    return sum(s.value for metric in REGISTRY.collect() for s in metric.samples if s.name == name)


async def until_idle() -> None:
    """Return once no request is being served."""
    async with asyncio.timeout(DEADLINE_S):
        while total("active_requests"):  # noqa: ASYNC110 - a gauge has no event
            await asyncio.sleep(0.01)


def unexpected(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log lines that are errors or have a traceback."""
    lines = caplog.get_records("call")
    return [caplog.handler.format(line) for line in lines if line.exc_info or line.levelno >= logging.ERROR]


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_a_peer_does_is_no_error_of_the_gateways(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, deed: str
) -> None:
    if deed.startswith("client stalls"):
        monkeypatch.setattr(bodies, "CLIENT_S", 0.3)
    instance, request, act = DEEDS[deed]
    port = await gateway(instance, timeout_s=0.5 if deed.startswith("instance stalls") else 60)
    errors = total("service_errors_total")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE_S):
        try:
            await act(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
    await until_idle()
    assert unexpected(caplog) == []
    assert total("service_errors_total") == errors
    of_instance = [line for line in caplog.records if line.getMessage() == "An instance failed"]
    assert len(of_instance) == (1 if deed.startswith("instance") and not deed.endswith("open WebSocket") else 0)


async def test_a_request_that_outlasts_the_server_is_no_error(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancel a request that outlasts the shutdown timeout, such as an open WebSocket, as uvicorn does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(opening))
    writer.write(OPEN)
    async with asyncio.timeout(DEADLINE_S):
        await reader.readuntil(b"\r\n\r\n")
        serving = [task for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]
        assert len(serving) == 1
        serving[0].cancel()
        assert await reader.read() == b""
    writer.close()
    await until_idle()
    assert unexpected(caplog) == []
