"""The gateway frames messages from what it has parsed, and no header of a client or an instance changes their end."""

import asyncio

import h11
import pytest

from tests.process.gateway.conftest import Behaviour, Gateway
from tests.process.gateway.test_proxy import ask, status

SMUGGLED = b"DELETE /s/victim HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n"
NAMED = (
    b"content-length transfer-encoding host authorization cookie expect x-request-id x-request-timeout-ms traceparent tracestate baggage "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-user forwarded via x-real-ip x-auth-user x-api-key x-http-method-override "
    b"content-type content-encoding content-language content-range content-digest if-match if-none-match if-modified-since if-unmodified-since "
    b"if-range range accept accept-encoding cache-control pragma idempotency-key origin referer user-agent date from max-forwards prefer "
    b"priority signature dpop sec-fetch-site sec-websocket-key access-control-request-method"
).split()
SPELLINGS = [b"%b", b"close, %b", b"%b,", b",, \t%b\t, keep-alive", b"X-Mine, %b", b"upgrade,%b"]


def chunks(body: bytes) -> bytes:
    """Return a body in one chunk."""
    return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def recording(seen: list[tuple[bytes, bytes, bytes]], answer: bytes = b"content-length: 2\r\n\r\nok") -> Behaviour:
    """Return an instance that reads requests as h11 does, one after the other on each connection, and records method, target and body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = h11.Connection(h11.SERVER)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                seen.append((event.method, event.target, b""))
            elif isinstance(event, h11.Data):
                method, target, body = seen.pop()
                seen.append((method, target, body + bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
                await writer.drain()
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
            else:
                return

    return serve


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", ["length", "chunks", "bodiless", "second header"])
async def test_connection_cannot_name_what_every_recipient_reads(gateway: Gateway, kind: str, spelling: bytes) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []
    port = await gateway(recording(seen), methods=["GET", "POST", "DELETE"])
    for name in NAMED:
        said = b"Connection: " + spelling % name.title() + b"\r\n"
        request = {
            "length": POST % (said, len(SMUGGLED), SMUGGLED),
            "chunks": CHUNKED + said + b"\r\n" + chunks(SMUGGLED),
            "bodiless": b"GET /s HTTP/1.1\r\nHost: h\r\n%s\r\n" % said,
            "second header": b"GET /s HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n%s\r\n" % said,
        }[kind]
        assert status(await ask(port, request)) == 400, name
    assert seen == []


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_connection_takes_away_what_one_hop_has_said(gateway: Gateway, spelling: bytes) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    said = b"Connection: " + spelling % b"My-Hop" + b"\r\nMy-Hop: 1\r\nMy-Other: 2\r\n"
    assert status(await ask(await gateway(note), b"GET /s HTTP/1.1\r\nHost: h\r\n%s\r\n" % said)) == 200
    assert b"my-hop" not in heads[0]
    assert b"my-other: 2\r\n" in heads[0]


@pytest.mark.parametrize("size", [0, 1, 41, 70_000, 300_000])
@pytest.mark.parametrize("form", [POST, CHUNKED])
async def test_a_body_that_looks_like_a_request_is_a_body(gateway: Gateway, form: bytes, size: int) -> None:
    body = (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]
    request = form % (b"", size, body) if form is POST else CHUNKED + b"\r\n" + chunks(body)
    seen: list[tuple[bytes, bytes, bytes]] = []
    port = await gateway(recording(seen))
    for _ in range(2):
        assert status(await ask(port, request)) == 200
    assert seen == [(b"POST", b"/s", body)] * 2


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"GET /s HTTP/1.1\r\nHost: h\r\nConnection: authorization\r\n%s\r\n" % UPGRADE,
    ],
)
async def test_a_request_without_a_clear_end_reaches_no_instance(gateway: Gateway, request_: bytes) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []
    assert status(await ask(await gateway(recording(seen)), request_)) == 400
    assert seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n%s" % (len(SMUGGLED), SMUGGLED),
        b"Transfer-Encoding: chunked\r\n\r\n" + chunks(SMUGGLED),
    ],
)
async def test_an_upgrade_with_a_body_is_a_request_as_any(gateway: Gateway, body: bytes) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []
    request = b"GET /s HTTP/1.1\r\nHost: h\r\n%s%s" % (UPGRADE, body)
    assert status(await ask(await gateway(recording(seen)), request)) == 200
    assert seen == [(b"GET", b"/s", SMUGGLED)]


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"content-type", b"set-cookie"])
async def test_an_answer_keeps_its_end_whatever_connection_names(gateway: Gateway, name: bytes) -> None:
    said = b"connection: %b\r\nset-cookie: a=b\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok" % name
    answer = await ask(await gateway(recording([], said)), b"GET /s HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    assert answer.lower().count(b"\r\ncontent-length: 2\r\n") == 1
    assert b"set-cookie: a=b\r\n" in answer
    assert b"content-type: text/plain\r\n" in answer


MANY_DIGITS = b"0" * 5000
"""Digits that exceed the limit of Python's int()."""


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        *((b"GET /s HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 400) for host in (
            b"", b"a b", b"u:p@h", b"h/path", b"http://h", b"h:80:80", b"h, other", b"[::1", b'"h"', b"<h>", b"h\xff", b"h\tb", b"h:http",
        )),
        *((b"GET /s HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 200) for host in (
            b"h", b"H.Example", b"h:80", b"h:", b"10.0.0.1:8080", b"[::1]", b"[2001:db8::1]:443", b"a_b.c",
        )),
        *((b"GET /s HTTP/%b\r\nHost: h\r\n\r\n" % version, 505) for version in (b"0.9", b"2.0")),
        (b"GET /s RTSP/1.0\r\nHost: h\r\n\r\n", 505),
        (b"POST /s HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        *((POST.replace(b"%d", b"%b") % (b"", length, b"abcde"), 400) for length in (
            b"9223372036854775808", b"18446744073709551615", b"+5", b"5,5",
        )),
        (POST.replace(b"%d", b"%b") % (b"", MANY_DIGITS + b"5", b"abcde"), 200),
        (POST.replace(b"%d", b"%b") % (b"", b"5 \t", b"abcde"), 200),
        (b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked \r\n\r\n" + chunks(b"abcde"), 200),
        (b"GET /s#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ],
)  # fmt: skip
async def test_a_request_is_read_as_the_standard_reads_it(gateway: Gateway, request_: bytes, wanted: int) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []
    answer = await ask(await gateway(recording(seen)), request_)
    assert status(answer) == wanted
    assert len(seen) == (wanted == 200)


@pytest.mark.parametrize("length", [b"9223372036854775808", MANY_DIGITS + b"99999999999999999999"])
async def test_a_length_too_large_to_count_is_refused_by_own_endpoints(gateway: Gateway, length: bytes) -> None:
    request = b"POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\n\r\n" % length
    assert status(await ask(await gateway(recording([])), request)) in (400, 404)


@pytest.mark.parametrize("target", [b"/s/a?", b"/s/a?b=?", b"/s/a", b"/s/a??"])
async def test_a_target_reaches_the_instance_as_it_was_sent(gateway: Gateway, target: bytes) -> None:
    seen: list[tuple[bytes, bytes, bytes]] = []
    assert status(await ask(await gateway(recording(seen)), b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)) == 200
    assert seen == [(b"GET", target, b"")]


@pytest.mark.parametrize("length", [MANY_DIGITS + b"2", b"2 "])
async def test_an_answers_length_is_read_whatever_its_form(gateway: Gateway, length: bytes) -> None:
    answer = await ask(
        await gateway(recording([], b"content-length: %b\r\n\r\nok" % length)), b"GET /s HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    assert answer.endswith(b"\r\ncontent-length: 2\r\n\r\nok") or b"\r\ncontent-length: 2\r\n" in answer
