"""Clients that are slow, send much at once, or keep their connection: their answers, and the isolation of other clients."""

import asyncio

import pytest
from api_gateway import proxy
from api_gateway.connection import Connection
from servicekit import bodies, http1
from servicekit.asgi import Message

from tests.process.gateway.conftest import Gateway, answering, head
from tests.process.gateway.test_proxy import GET, status, statuses

POST = b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"


async def read_to_end(port: int, request: bytes) -> bytes:
    """Return all bytes until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET /s/1 HTTP/1.1\r\nHost: h\r\nX-Slow: "])
async def test_a_head_that_does_not_come_is_not_waited_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http1, "HEAD_S", 0.3)
    assert status(await read_to_end(await gateway(answering()), begun)) == 408


async def test_an_unused_connection_is_closed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "KEEP_ALIVE_S", 0.3)
    assert (await read_to_end(await gateway(answering()), GET)).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("sent", [b"", b"x" * 70000])
async def test_a_body_that_does_not_come_is_the_clients_fault_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await head(reader):
            if received.startswith(b"POST"):
                await reader.readexactly(100000)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    monkeypatch.setattr(bodies, "CLIENT_S", 0.2)
    port = await gateway(patient, timeout_s=0.3)
    slow = await asyncio.gather(*(read_to_end(port, POST + sent) for _ in range(30)))
    assert {status(answer) for answer in slow} == {408}
    # If they counted as failures of the instance, it would be ejected by now.
    assert await statuses(port, 5) == [200] * 5


@pytest.mark.parametrize("chunked", [True, False])
async def test_pieces_of_a_body_that_are_small_are_passed_on_together(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    chunked: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(http1, "GATHER_S", 0.5)
    pieces = 0

    async def count(exchange: proxy.Exchange, connection: Connection) -> None:
        receive = exchange.receive

        async def counted() -> Message:
            nonlocal pieces
            pieces += 1
            return await receive()

        exchange.receive = counted
        await send_rest(exchange, connection)

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        if chunked:
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(len(sent))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    send_rest = proxy.send_rest
    monkeypatch.setattr(proxy, "send_rest", count)
    sent = bytes(range(256)) * 2
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(read, timeout_s=120))
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(sent)
    writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % framing)
    async with asyncio.timeout(120):
        for byte in sent:
            writer.write(b"1\r\n%c\r\n" % byte if chunked else bytes([byte]))
            await asyncio.sleep(0.002)  # a packet of its own
        writer.write(b"0\r\n\r\n" if chunked else b"")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(sent)) == sent
    writer.close()
    assert pieces < len(sent) / 4


@pytest.mark.parametrize("size", [10, 20_000, 4 * 1024 * 1024])
async def test_the_rest_of_an_unwanted_body_is_read_before_the_next_request(gateway: Gateway, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(answering(), methods=["GET"]))
    half = b"x" * (size // 2)
    async with asyncio.timeout(30):
        writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (size, half))
        assert status(await reader.readuntil(b"}")) == 405
        writer.write(half + GET)
        await writer.drain()
        assert status(await reader.readuntil(b"ok")) == 200
    writer.close()


async def test_a_client_that_reads_slowly_is_no_failure_of_the_instance(gateway: Gateway) -> None:
    size = 8 * 1024 * 1024

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(b"x" * size)
            await writer.drain()

    port = await gateway(large, timeout_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(1)
    assert len(await reader.readexactly(size)) == size
    writer.close()


async def test_a_client_that_takes_nothing_is_let_go(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "STALL_S", 0.3)
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        finally:
            gone.set()

    _, writer = await asyncio.open_connection("127.0.0.1", await gateway(endless), limit=1024)
    writer.write(GET)
    async with asyncio.timeout(10):
        await gone.wait()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_every_answer_says_where_it_ends(gateway: Gateway, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(answer)
            if b"close" in answer:
                await writer.drain()
                return

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(serve))
    async with asyncio.timeout(5):
        for _ in range(5):
            writer.write(GET)
            head_ = await reader.readuntil(b"\r\n\r\n")
            if b"content-length" in head_:
                assert await reader.readexactly(2) == b"ok"
            else:
                assert b"transfer-encoding: chunked" in head_
                assert await reader.readuntil(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"
    writer.close()


async def test_requests_that_are_sent_at_once_are_answered_in_their_order(gateway: Gateway) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await head(reader):
            path = received.split()[1]
            await asyncio.sleep(0.05 if path == b"/s/0" else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(echo))
    writer.write(b"".join(GET.replace(b"/s/1", b"/s/%d" % number) for number in range(20)))
    async with asyncio.timeout(5):
        for number in range(20):
            await reader.readuntil(b"\r\n\r\n")
            path = b"/s/%d" % number
            assert await reader.readexactly(len(path)) == path
    writer.close()
