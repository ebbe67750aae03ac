"""How the apps' server reads requests, on raw sockets: limits of heads, upgrades, trailers, and what HEAD is answered."""

import asyncio
import gc
import tracemalloc

import pytest
from servicekit import http1

from tests.proxy.conftest import Gateway, answering
from tests.proxy.test_proxy import GET, status

DEADLINE_S = 30
MEBIBYTE = 1024 * 1024


async def exchange(port: int, *pieces: bytes) -> bytes:
    """All that is answered to pieces of requests, until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        async with asyncio.timeout(DEADLINE_S):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.read()
    finally:
        writer.close()
    return answer


def request(target: bytes = b"/s/1", *fields: bytes, method: bytes = b"GET") -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: h", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ending(raw: bytes) -> bytes:
    """A request after whose answer the connection is closed."""
    return raw.replace(b"Host: h\r\n", b"Host: h\r\nConnection: close\r\n", 1)


CONNECTION_BYTES = len(b"Connection" + b"close") + http1.FIELD_BYTES
FIELDS_BYTES = http1.HEAD_LIMIT_BYTES - len(b"Host" + b"h" + b"X") - 2 * http1.FIELD_BYTES
"""The most that a field X may hold, next to Host."""


WITHIN = {
    "target": request(b"/s/" + b"x" * (http1.TARGET_LIMIT_BYTES - 3)),
    "query": request(b"/s?" + b"x" * (http1.TARGET_LIMIT_BYTES - 3)),
    "number": request(b"/s/1", *[b"X: x"] * (http1.FIELDS_LIMIT - 2)),
    "size": request(b"/s/1", b"X: " + b"x" * (FIELDS_BYTES - CONNECTION_BYTES)),
}
BEYOND = {
    "target": (request(b"/s/" + b"x" * (http1.TARGET_LIMIT_BYTES - 2)), 414),
    "query": (request(b"/s?" + b"x" * (http1.TARGET_LIMIT_BYTES - 2)), 414),
    "long target": (request(b"/" + b"s" * 900_000), 414),
    "number": (request(b"/s/1", *[b"X: x"] * http1.FIELDS_LIMIT), 431),
    "size": (request(b"/s/1", b"X: " + b"x" * (FIELDS_BYTES + 1)), 431),
    "many": (request(b"/s/1", *[b"X: x"] * 100_000), 431),
    "name": (request(b"/s/1", b"x" * 900_000 + b": x"), 431),
    "value": (request(b"/s/1", b"User-Agent: " + b"x" * 900_000), 431),
    "forwarded": (request(b"/s/1", b"X-Forwarded-For: " + b"9" * 900_000), 431),
    "token": (request(b"/s/1", b"Authorization: Bearer " + b"x" * 900_000), 431),
}


def in_pieces(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1000] for at in range(0, min(len(raw), 200_000), 1000)]


@pytest.mark.parametrize("name", WITHIN)
async def test_a_head_at_its_limit_is_served(gateway: Gateway, name: str) -> None:
    raw = ending(WITHIN[name])
    port = await gateway(answering())
    assert status(await exchange(port, raw)) == 200
    assert status(await exchange(port, *in_pieces(raw))) == 200


@pytest.mark.parametrize("name", [*WITHIN, "host"])
async def test_what_the_gateway_takes_a_service_takes_as_well(gateway: Gateway, name: str) -> None:
    seen = b""

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while b"\r\n\r\n" not in seen:
            seen += await reader.read(65536)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    long = b"GET /s HTTP/1.1\r\nConnection: close\r\nHost: " + b"h" * (FIELDS_BYTES - CONNECTION_BYTES) + b"\r\n\r\n"
    assert status(await exchange(await gateway(note), ending(WITHIN.get(name, long)))) == 204
    fields = seen.strip().split(b"\r\n")[1:]
    assert len(fields) <= http1.ServiceProtocol.fields_limit
    size = sum(len(field) - len(b": ") + http1.FIELD_BYTES for field in fields)
    assert size <= http1.ServiceProtocol.head_limit_bytes


@pytest.mark.parametrize("name", BEYOND)
async def test_a_larger_one_is_refused_and_ends_the_connection(gateway: Gateway, name: str) -> None:
    raw, code = BEYOND[name]
    port = await gateway(answering())
    for pieces in ([raw], in_pieces(raw)):
        answer = await exchange(port, *pieces)
        given, _, body = answer.partition(b"\r\n\r\n")
        assert status(answer) == code
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in given
        assert b"content-length: %d\r\n" % len(body) in given
        assert b'"type": "/problems/' in body
    assert status(await exchange(port, ending(GET))) == 200


async def test_a_larger_head_of_a_head_request_is_refused_without_a_body(gateway: Gateway) -> None:
    answer = await exchange(await gateway(answering()), request(b"/s/1", b"X: " + b"x" * 40_000, method=b"HEAD"))
    assert status(answer) == 431
    assert answer.endswith(b"\r\n\r\n")


async def test_those_before_a_refused_request_are_answered_first(gateway: Gateway) -> None:
    answer = await exchange(await gateway(answering()), GET * 3 + BEYOND["size"][0])
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, 200, 431]


async def send_large_fields(port: int, number: bytes) -> None:
    beyond, within = number + b"x" * 900_000, number + b"x" * 15_000
    assert status(await exchange(port, request(b"/s/1", b"User-Agent: " + beyond))) == 431
    fields = (b"User-Agent: " + within, b"Authorization: Bearer " + within)
    assert status(await exchange(port, ending(request(b"/s/1", *fields)))) == 200


async def test_large_fields_of_many_requests_are_not_kept(gateway: Gateway) -> None:
    port = await gateway(answering())
    await exchange(port, ending(GET))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(60):
            await send_large_fields(port, b"%d" % number)
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MEBIBYTE / 2  # all that is kept of the smaller ones alone would be thrice as much
    assert peak - before < 8 * MEBIBYTE


async def test_a_field_without_end_is_not_kept(gateway: Gateway) -> None:
    port = await gateway(answering())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        started = b"GET /s/1 HTTP/1.1\r\nHost: h\r\nX: "
        assert status(await exchange(port, started, *[b"x" * 65536] * 160)) == 431
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4 * MEBIBYTE


async def test_requests_that_wait_for_an_answer_are_few(gateway: Gateway) -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    port = await gateway(hang, timeout_s=0.5)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    codes = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert codes[-1] == 429
    assert len(codes) <= http1.PIPELINE_LIMIT + 2
    assert peak - before < 4 * MEBIBYTE
