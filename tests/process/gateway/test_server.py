"""The apps' server on raw sockets: limits of heads, upgrades, trailers, HEAD, and errors."""

import asyncio
import gc
import re
import tracemalloc
from typing import Any

import pytest
from api_gateway import headers, proxy
from api_gateway.service import UpstreamService
from prometheus_client import REGISTRY
from servicekit import http1

from tests.process.gateway.conftest import Gateway, answering, head
from tests.process.gateway.test_proxy import GET, status

DEADLINE_S = 30
MEBIBYTE = 1024 * 1024


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Return all bytes of the answer to pieces of requests, until the gateway closes the connection."""
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
    """Return the request with a header that closes the connection after the answer."""
    return raw.replace(b"Host: h\r\n", b"Host: h\r\nConnection: close\r\n", 1)


CONNECTION_BYTES = len(b"Connection" + b"close") + http1.FIELD_BYTES
FIELDS_BYTES = http1.HEAD_LIMIT_BYTES - len(b"Host" + b"h" + b"X") - 2 * http1.FIELD_BYTES
"""Maximum bytes of a field X, next to Host."""


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


def in_pieces(raw: bytes, size: int = 1000) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, min(len(raw), 200_000), size)]


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


UNREADABLE = [
    (b"/s/1 HTTP/1.1\r\nX: " + b"x" * 40_000, 431),
    (b"/" + b"x" * 9000 + b" HTTP/1.1", 414),
    (b"/s/\x80 HTTP/1.1", 400),
    (b"/s/\x7f HTTP/1.1", 400),
    (b"s HTTP/1.1", 400),
    (b"/s/1#x HTTP/1.1", 400),
    (b"http:///s/1 HTTP/1.1", 400),
    (b"/s/1 HTTP/1.1\r\nno field", 400),
    (b"/s/1 HTTP/1.1\r\nA\x80: x", 400),
    (b"/s/1 HTTP/1.1\r\nContent-Length: x", 400),
    (b"/s/1 HTTP/1.1\r\nTransfer-Encoding: x", 400),
    (b"/s/1 HTTP/1.7", 400),
    (b"/s/1 HTTP/2.0", 505),
]


@pytest.mark.parametrize("upgrade", [b"", b"\r\nConnection: Upgrade\r\nUpgrade: h2"])
@pytest.mark.parametrize(("line", "code"), UNREADABLE)
async def test_a_head_request_is_refused_without_a_body(
    gateway: Gateway, line: bytes, code: int, upgrade: bytes
) -> None:
    port = await gateway(answering())
    for method in (b"HEAD", b"GET"):
        answer = await exchange(port, method + b" " + line + b"\r\nHost: api.test" + upgrade + b"\r\n\r\n")
        assert status(answer) == code
        assert answer.endswith(b"\r\n\r\n") is (method == b"HEAD")


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
    assert after - before < MEBIBYTE / 2  # all that is kept of the smaller ones would be thrice as much
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


LAST = b"!"
"""The last byte of every body here."""


async def body_of(reader: asyncio.StreamReader, received: bytes) -> bytes:
    """Return the body of a request, after its head."""
    if size := re.search(rb"\r\ncontent-length: (\d+)", received, re.IGNORECASE):
        return await reader.readexactly(int(size[1]))
    body = b""
    while b"transfer-encoding: chunked" in received.lower():
        body += await reader.readexactly(int(await reader.readuntil(b"\r\n"), 16))
        if await reader.readuntil(b"\r\n") == b"\r\n" and body.endswith(LAST):
            await reader.readuntil(b"0\r\n\r\n")
            break
    return body


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer, as an instance, with the request line, the names of its fields, and its body."""
    while received := await head(reader):
        line, *fields = received.strip().split(b"\r\n")
        names = b",".join(field.partition(b":")[0].lower() for field in fields)
        answer = b"|".join((line, names, await body_of(reader, received)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))


INNER = b"GET /s/inner HTTP/1.1\r\nHost: h\r\n\r\n" + LAST
"""A body that would be a request if it were parsed as one."""
FRAMINGS = {
    "length": (b"Content-Length: %d" % len(INNER), INNER),
    "chunks": (
        b"Transfer-Encoding: chunked",
        b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (INNER[:5], len(INNER) - 5, INNER[5:]),
    ),
}


@pytest.mark.parametrize("cut", [None, 1, 40])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upgrade", [b"h2c", b"TLS/1.0, HTTP/1.1", b"websocket", b"WebSocket, h2c"])
@pytest.mark.parametrize("connection", [b"Upgrade", b"upgrade, HTTP2-Settings", b"keep-alive, Upgrade", None])
async def test_an_upgrade_of_a_request_with_a_body_is_ignored(
    gateway: Gateway, connection: bytes | None, upgrade: bytes, framing: str, cut: int | None
) -> None:
    field, body = FRAMINGS[framing]
    fields = [b"Upgrade: " + upgrade, field, *([b"Connection: " + connection] if connection else [])]
    raw = request(b"/s/1", *fields, method=b"POST") + body + ending(request(b"/s/2"))
    answer = await exchange(await gateway(echo), *([raw] if cut is None else in_pieces(raw, cut)))
    first, second = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    line, names, arrived = first.partition(b"\r\n\r\n")[2].split(b"|")
    assert line == b"POST /s/1 HTTP/1.1"
    assert arrived == INNER
    assert b"upgrade" not in names.split(b",")
    assert second.partition(b"\r\n\r\n")[2].startswith(b"GET /s/2 HTTP/1.1|")


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
async def test_http_1_0_knows_no_upgrade(gateway: Gateway, upgrade: bytes) -> None:
    fields = (b"Connection: upgrade", b"Upgrade: " + upgrade, b"Content-Length: %d" % len(INNER))
    raw = request(b"/s/1", *fields, method=b"POST").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answer = await exchange(await gateway(echo), raw + INNER)
    assert status(answer) == 200
    assert answer.endswith(b"|" + INNER)


async def test_many_ignored_upgrades_in_one_packet_are_answered_in_turn(gateway: Gateway) -> None:
    one = request(b"/s/1", b"Connection: upgrade", b"Upgrade: h2c")
    answer = await exchange(await gateway(echo), one * 20 + ending(GET))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 21


@pytest.mark.parametrize(
    ("line", "reason", "known"),
    [
        (b"CONNECT h:443", b"CONNECT", ("CONNECT", "h:443")), (b"CONNECT /s", b"CONNECT", ("CONNECT", "/s")),
        (b"HACK /s", b"method", None), (b"get /s", b"method", None), (b"GETX /s", b"method", None),
        (b"GET h:443", b"target", ("GET", None)),
        (b"GET /s?secret#x", b"target", ("GET", "/s")),
    ],
)  # fmt: skip
async def test_who_is_refused_before_being_read_reads_why(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, line: bytes, reason: bytes, known: tuple[str, str | None] | None
) -> None:
    port = await gateway(answering())
    caplog.clear()
    answer = await exchange(port, GET + line + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    code = 501 if line.startswith(b"CONNECT") else 400
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, code]
    assert reason in answer.rpartition(b'"detail"')[2]
    (record,) = (record for record in caplog.records if record.message == "A request was refused before it was read")
    about = vars(record)
    assert (about.get("method"), about.get("url")) == (known or (None, None))


REST = b"\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    "line", [b"HACK /s HTTP/1.1", b"get /s HTTP/1.1", b"GETX /s?a HTTP/1.0", b"B~!# http://h/s HTTP/1.1"]
)
async def test_a_method_that_http_does_not_have_is_not_implemented(gateway: Gateway, line: bytes) -> None:
    port = await gateway(answering())
    assert status(await exchange(port, line + REST)) == 501
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(DEADLINE_S):
        writer.write(GET)
        assert status(await reader.readuntil(b"ok")) == 200
        writer.write(line + REST)
        assert status(await reader.read()) == 501
    writer.close()


@pytest.mark.parametrize(
    "line",
    [b"HACK /s", b"HACK /s HTTP/2.0", b"HACK  /s HTTP/1.1", b"HACK /s HTTP/1.1 ", b"H(K /s HTTP/1.1", b"HACK /\xff HTTP/1.1", b"\x16\x03\x01", b":"],
)  # fmt: skip
async def test_what_is_no_request_line_is_malformed_whatever_its_method(gateway: Gateway, line: bytes) -> None:
    assert status(await exchange(await gateway(answering()), line + REST)) == 400


async def test_trailers_are_no_header_fields(gateway: Gateway) -> None:
    trailers = b"Authorization: Bearer forged\r\nX-Late: 1\r\nHost: other\r\n"
    chunked = request(b"/s/1", b"Transfer-Encoding: chunked", b"Trailer: X-Late", method=b"POST")
    raw = chunked + b"1\r\n!\r\n0\r\n" + trailers + b"\r\n" + ending(request(b"/s/2"))
    for pieces in ([raw], in_pieces(raw, 1)):
        first, second = (await exchange(await gateway(echo), *pieces)).split(b"HTTP/1.1 200 OK\r\n")[1:]
        names = first.split(b"|")[1].split(b",")
        assert names.count(b"host") == 1
        assert not {b"authorization", b"x-late"} & set(names)
        assert b"GET /s/2 HTTP/1.1|" in second


@pytest.mark.parametrize(
    "rest",
    [b"0\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"0\r\n" + b"X: x\r\n" * 20_000 + b"\r\n", b"1;" + b"x" * 900_000 + b"\r\n!\r\n0\r\n\r\n"],
    ids=["a trailer", "trailers", "an extension"],
)  # fmt: skip
async def test_the_overhead_of_a_body_is_limited(gateway: Gateway, rest: bytes) -> None:
    head_ = request(b"/s/1", b"Transfer-Encoding: chunked", method=b"POST")
    for pieces in ([head_ + rest], [head_, *in_pieces(rest)]):
        answer = await exchange(await gateway(echo), *pieces)
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [431]


async def test_a_body_that_cannot_be_read_ends_its_own_request_alone(gateway: Gateway) -> None:
    broken = request(b"/s/1", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\n!\r\nXYZ\r\n"
    answer = await exchange(await gateway(echo), request(b"/s/0") + broken)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (request(b"/s/1", method=b"HEAD"), 200),
        (request(b"/nothing", method=b"HEAD"), 404),
        (request(b"/s//1", method=b"HEAD"), 400),
        (request(b"/s/1", b"Authorization: Bearer a", b"Authorization: Bearer b", method=b"HEAD"), 400),
        (request(b"/s/1", b"Content-Length: 1", method=b"HEAD") + b"!", 200),
    ],
)
async def test_the_answer_to_head_has_no_body(gateway: Gateway, raw: bytes, code: int) -> None:
    async def answer_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await head(reader):
            await body_of(reader, received)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    port = await gateway(answer_head)
    await exchange(port, ending(request(b"/s/1", method=b"HEAD")))  # an existing connection: what follows needs no task
    answer = await exchange(port, raw + ending(request(b"/s/1", method=b"HEAD")))
    heads = answer.split(b"\r\n\r\n")
    assert [int(part.removeprefix(b"HTTP/1.1 ")[:3]) for part in heads[:-1]] == [code, 200]
    assert heads[-1] == b""


ASKED = {"method": "GET", "endpoint": "/s/{path}"}


def answers(**labels: str) -> float:
    return REGISTRY.get_sample_value("http_request_duration_seconds_count", ASKED | labels) or 0


def in_flight() -> float:
    """Return the number of requests that the gauges still count."""
    names = ("active_requests", "gateway_in_flight", "gateway_upstream_in_flight")
    return sum(s.value for metric in REGISTRY.collect() if metric.name in names for s in metric.samples)


@pytest.mark.parametrize(
    "failing",
    [
        (proxy, "check"),
        (proxy, "begin_attempt"),
        (proxy, "request"),
        (proxy, "end_attempt"),
        (headers, "downstream"),
        (UpstreamService, "succeeded"),
        (http1.Cycle, "respond"),
    ],
    ids=lambda failing: failing[1],
)
async def test_an_error_without_a_task_is_an_answer_and_a_line(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: tuple[Any, str]
) -> None:
    works = getattr(*failing)
    calls = 0

    def fail_once(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return works(*given, **named)

    port = await gateway(answering())
    await exchange(port, ending(GET))  # an existing connection: what follows needs no task
    before, counted = in_flight(), answers(status_code="500")
    monkeypatch.setattr(*failing, fail_once)
    answer = await exchange(port, GET + ending(GET))
    monkeypatch.undo()
    assert calls >= 1
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [500, 200]
    assert b"application/problem+json" in answer
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert b"x-request-id: " + vars(record)["request_id"].encode() in answer
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert in_flight() == before
    assert answers(status_code="500") == counted + 1
    assert status(await exchange(port, ending(GET))) == 200


async def test_a_client_that_leaves_in_the_middle_of_its_upload_is_no_error(gateway: Gateway) -> None:
    async def patient(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    port = await gateway(patient)
    left, failed = answers(method="POST", status_code="499"), answers(method="POST", status_code="500")
    for sent in (b"", b"x", b"x" * 70_000):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(b"/s/1", b"Content-Length: 100000", method=b"POST") + sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(DEADLINE_S):
        while answers(method="POST", status_code="499") < left + 3:  # noqa: ASYNC110 - the registry has no event for it
            await asyncio.sleep(0.01)
    assert answers(method="POST", status_code="500") == failed
