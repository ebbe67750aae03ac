"""WebSockets through the gateway, on raw sockets: bytes are forwarded whatever they mean."""

import asyncio

import pytest

from tests.process.gateway.conftest import Gateway, answering, head
from tests.process.gateway.test_proxy import GET, ask, status, statuses

OPEN = b"GET /s/1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\r\n"
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: xyz\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a WebSocket, greet at once, and send back what arrives."""
    received = (await head(reader)).lower()
    assert b"upgrade: websocket\r\n" in received
    assert b"sec-websocket-key: a2v5\r\n" in received
    assert b"x-request-id: " in received
    writer.write(ACCEPT + b"hello")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_bytes_go_to_and_fro(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(echo))
    writer.write(OPEN)
    async with asyncio.timeout(5):
        opened = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert status(opened) == 101
        assert b"upgrade: websocket\r\n" in opened
        assert b"sec-websocket-accept: xyz\r\n" in opened
        assert b"x-request-id: " in opened
        assert b"transfer-encoding" not in opened
        assert await reader.readexactly(5) == b"hello"
        for _ in range(100):
            writer.write(b"\x81\x02hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
    writer.close()


async def test_an_interim_answer_opens_none(gateway: Gateway) -> None:
    async def hint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ACCEPT + b"hello")
        await reader.read()

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(hint))
    writer.write(OPEN)
    async with asyncio.timeout(20):
        opened = await reader.readuntil(b"hello")
    assert status(opened) == 101
    assert b"Link" not in opened
    writer.close()


async def test_much_arrives_whole(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(echo))
    size = 32 * 1024 * 1024
    writer.write(OPEN)
    await reader.readuntil(b"hello")
    writer.write(b"x" * size)
    async with asyncio.timeout(20):
        assert len(await reader.readexactly(size)) == size
    writer.close()


async def test_the_end_of_one_side_is_the_end_of_the_other(gateway: Gateway) -> None:
    ended = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(ACCEPT)
        if await reader.read(3) == b"bye":
            return
        ended.set()

    port = await gateway(note)
    async with asyncio.timeout(5):
        for said, seen in ((b"bye", None), (b"", ended)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(OPEN)
            await reader.readuntil(b"\r\n\r\n")
            if said:
                writer.write(said)
                assert await reader.read() == b""
            writer.close()
            if seen:
                await seen.wait()


@pytest.mark.parametrize(("code", "heard"), [(403, 403), (404, 404), (200, 400), (500, 502)])
async def test_a_service_that_opens_none_is_heard_of(gateway: Gateway, code: int, heard: int) -> None:
    assert status(await ask(await gateway(answering(code)), OPEN)) == heard


async def test_an_instance_that_hangs_up_is_a_502_and_one_that_is_silent_a_504(gateway: Gateway) -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await head(reader)

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    assert status(await ask(await gateway(hang_up), OPEN)) == 502
    assert status(await ask(await gateway(silent, timeout_s=0.3), OPEN)) == 504


async def test_a_route_that_takes_no_get_opens_none(gateway: Gateway) -> None:
    seen: list[bytes] = []

    async def record(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        seen.append(await head(reader))

    port = await gateway(record, methods=["POST"])
    assert status(await ask(port, OPEN)) == 405
    assert seen == []


async def test_another_upgrade_is_none(gateway: Gateway) -> None:
    port = await gateway(answering())
    assert status(await ask(port, OPEN.replace(b"Upgrade: websocket", b"Upgrade: h2c"))) == 200
    assert await statuses(port, 2, GET) == [200, 200]


async def test_bytes_that_come_with_the_request_arrive(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(echo))
    writer.write(OPEN + b"\x81\x02hi")
    async with asyncio.timeout(30):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(9) == b"hello\x81\x02hi"
    writer.close()
