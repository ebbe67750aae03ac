"""Traces through the gateway, with a collector on loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from servicekit.asgi import Receive, Scope, Send
from servicekit.observation import Observed
from servicekit.spans import Spans

from tests.process.gateway.conftest import Behaviour, Gateway, answering, head
from tests.process.gateway.test_proxy import GET, ask, status
from tests.support.collector import Collector, attributes, collecting

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def of_trace(flags: str) -> bytes:
    """Return a GET from a caller that has begun a trace."""
    return GET.replace(b"\r\n\r\n", f"\r\ntraceparent: 00-{TRACE}-{CALLER}-{flags}\r\n\r\n".encode())


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
async def spans(collector: Collector) -> AsyncIterator[Spans]:
    """Yield the gateway's spans: it records all of its own traces unless a test changes that."""
    spans = Spans("api-gateway", collector.endpoint, ratio=1)
    yield spans
    await asyncio.to_thread(spans.close)


def serving(spans: Spans) -> Behaviour:
    """Return a service as the gateway's instance: one request per connection."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["route_template"] = "/s/{id}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    observed = Observed(app, "user-service", behind_gateway=True, spans=spans)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [line.split(b": ", 1) for line in (await head(reader)).split(b"\r\n")[1:-2]]
        headers = [(name.lower(), value) for name, value in lines]

        async def receive() -> dict[str, str]:
            return {"type": "http.request"}

        async def send(message: object) -> None:
            """Ignore the message: the tests look at the gateway's own answer."""

        await observed({"type": "http", "method": "GET", "path": "/s/1", "headers": headers}, receive, send)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

    return serve


async def test_a_trace_goes_on_from_the_caller_through_the_gateway_to_the_service(
    gateway: Gateway, collector: Collector, spans: Spans
) -> None:
    service = Spans("user-service", collector.endpoint, ratio=0)
    assert status(await ask(await gateway(serving(service), spans=spans), of_trace("01"))) == 200
    await asyncio.to_thread(spans.close)
    await asyncio.to_thread(service.close)

    received, attempt = collector.of("api-gateway")
    (served,) = collector.of("user-service")
    assert {span.trace_id.hex() for span in (received, attempt, served)} == {TRACE}
    assert [received.parent_span_id.hex(), attempt.parent_span_id, served.parent_span_id] == [
        CALLER,
        received.span_id,
        attempt.span_id,
    ]
    assert [received.kind, attempt.kind, served.kind] == [SERVER, CLIENT, SERVER]
    assert [received.name, attempt.name, served.name] == ["GET /s/{path}", "GET /s/{path}", "GET /s/{id}"]
    assert attributes(served) == {
        "http.request.method": "GET",
        "url.path": "/s/1",
        "url.scheme": "http",
        "http.route": "/s/{id}",
        "http.response.status_code": 200,
    }


async def test_each_attempt_is_a_span_and_says_how_it_failed(
    gateway: Gateway, collector: Collector, spans: Spans
) -> None:
    async def broken(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await head(reader)

    port = await gateway(broken, answering(503), answering(), spans=spans, balance="round_robin")
    assert status(await ask(port)) == 200
    await asyncio.to_thread(spans.close)

    received, *attempts = collector.of("api-gateway")
    assert received.status.code == Status.STATUS_CODE_UNSET
    reported = [(attributes(a).get("http.response.status_code"), attributes(a).get("error.type")) for a in attempts]
    assert reported == [(503, "503"), (None, "Broken"), (200, None)]
    assert [attributes(a).get("http.request.resend_count") for a in attempts] == [None, 1, 2]
    assert [a.status.code for a in attempts] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_ERROR, 0]
    assert {a.parent_span_id for a in attempts} == {received.span_id}


async def test_every_request_is_a_trace_however_it_was_answered(
    gateway: Gateway, collector: Collector, spans: Spans
) -> None:
    port = await gateway(answering(), spans=spans)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        # The second goes over an existing connection, and is answered without a task; the third is refused, the last is not proxied.
        answers = [
            await client.request(*words) for words in (("GET", "/s/1"), ("GET", "/s/1"), ("TRACE", "/s"), ("GET", "/"))
        ]
    await asyncio.to_thread(spans.close)
    assert [answer.status_code for answer in answers] == [200, 200, 405, 404]
    names = [(span.name, attributes(span)["http.response.status_code"]) for span in collector.of("api-gateway")]
    assert names == [
        *[("GET /s/{path}", 200)] * 4,
        ("HTTP /s/{path}", 405),
        ("GET unmatched", 404),
    ]
    assert len({span.trace_id for span in collector.of("api-gateway")}) == 4


async def test_whether_a_trace_is_recorded_is_decided_where_it_begins(
    gateway: Gateway, collector: Collector, spans: Spans
) -> None:
    seen: list[bytes] = []

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await head(reader):
            seen.extend(line for line in request.split(b"\r\n") if line.startswith(b"traceparent"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    port = await gateway(listening, spans=spans)
    await ask(port, of_trace("00"))
    spans.ratio = 0
    await ask(port)
    await ask(port, of_trace("01"))
    await asyncio.to_thread(spans.close)
    assert [line[-2:] for line in seen] == [b"00", b"00", b"01"]
    assert TRACE.encode() in seen[0]
    assert TRACE.encode() not in seen[1]
    assert {span.trace_id.hex() for span in collector.of("api-gateway")} == {TRACE}
