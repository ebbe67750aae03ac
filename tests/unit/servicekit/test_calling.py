"""Calls between services, to a server on loopback with scripted answers."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import Request
from servicekit import calling
from servicekit.calling import Callee
from servicekit.problems import Problem
from servicekit.settings import Called
from servicekit.spans import Spans
from servicekit.tracing import continued

from tests.support.collector import attributes, collecting

TOKEN = "Bearer a.b.c"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=b\r\n\r\n{}"
NOTHING = b""
"""Marker in place of an answer: the connection ends."""
PART = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"
HANGS = b"hangs"


@dataclass
class Upstream:
    """A service with one answer for each request; the last one also answers all further requests."""

    port: int = 0
    answers: list[bytes] = field(default_factory=lambda: [OK])
    heads: list[str] = field(default_factory=list[str])
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if length := re.search(r"content-length: (\d+)", head, re.IGNORECASE):
            head += (await reader.readexactly(int(length[1]))).decode()
        self.heads.append(head)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if head.startswith("HEAD "):
            answer = b"".join(answer.partition(b"\r\n\r\n")[:2])
        writer.write(answer.removesuffix(HANGS))
        if answer.endswith(HANGS):
            await reader.read()
        writer.close()

    def sent(self, name: str) -> list[str | None]:
        """Return each request's value of a header."""
        found = [re.search(rf"^{name}: (.*?)\r$", head, re.IGNORECASE | re.MULTILINE) for head in self.heads]
        return [match[1] if match else None for match in found]

    async def called(self, request: Request, method: str = "GET", path: str = "/", **more: Any) -> calling.Answer:
        """Call the service once, with settings and arguments as given."""
        arguments = {key: more.pop(key) for key in ("query", "json", "headers") if key in more}
        callee = Callee("users", Called(url=f"http://127.0.0.1:{self.port}", **more))
        await callee.open()
        try:
            return await callee.call(request, method, path, **arguments)
        finally:
            await callee.close()


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
        upstream.port = server.sockets[0].getsockname()[1]
        yield upstream


def request(started_s_ago: float = 0, **headers: str) -> Request:
    """Return a request that is being served."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": sent, "request_id": "an-id"}
    return Request(scope | {"trace": continued(""), "started": time.perf_counter() - started_s_ago})


async def refused(upstream: Upstream, given: Request, **more: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await upstream.called(given, **more)
    return raised.value


async def test_the_request_in_whose_course_it_is_made_goes_with_a_call(upstream: Upstream) -> None:
    given = request(authorization=TOKEN, cookie="a=b", x_forwarded_for="192.0.2.1")
    answer = await upstream.called(
        given, "POST", "/a b/ü", query={"q": "1&2"}, json={"a": 1}, headers={"If-Match": "*"}
    )
    assert (answer.status, answer.json()) == (200, {})
    (head,) = upstream.heads
    assert head.startswith("POST /a%20b/%C3%BC?q=1%262 HTTP/1.1\r\n")
    assert head.endswith('\r\n\r\n{"a":1}')
    assert upstream.sent("x-request-id") == ["an-id"]
    assert upstream.sent("traceparent") == [given.scope["trace"].traceparent]
    assert upstream.sent("content-type") == ["application/json"]
    assert upstream.sent("if-match") == ["*"]
    assert upstream.sent("cookie") == upstream.sent("x-forwarded-for") == [None]


@pytest.mark.parametrize(
    ("settings", "wanted"), [({}, None), ({"passes_token": False}, None), ({"passes_token": True}, TOKEN)]
)
async def test_the_token_goes_only_where_the_settings_say_so(
    upstream: Upstream, settings: dict[str, Any], wanted: str | None
) -> None:
    await upstream.called(request(authorization=TOKEN), **settings)
    await upstream.called(request(), **settings)
    assert upstream.sent("authorization") == [wanted, None]


async def test_nothing_of_one_call_is_kept_for_the_next(upstream: Upstream) -> None:
    callee = Callee("users", Called(url=f"http://127.0.0.1:{upstream.port}"))
    await callee.open()
    for _ in range(3):
        await callee.call(request(), "GET", "/")
    await callee.close()
    assert upstream.sent("cookie") == [None] * 3
    assert upstream.connections == 3


async def test_a_call_is_a_span_of_the_request_and_what_comes_of_it_is_beneath(upstream: Upstream) -> None:
    with collecting() as collector:
        spans = Spans("orders", collector.endpoint, ratio=1)
        given = request()
        given.scope["trace"] = trace = spans.start("", "GET", "/")
        await upstream.called(given)
        upstream.answers = [NOTHING]
        await refused(upstream, given)
        spans.close()
        found = collector.of("orders")
    assert {span.parent_span_id.hex() for span in found} == {trace.span_id}
    assert [attributes(span).get("error.type") for span in found] == [None, "ServerDisconnectedError"]
    passed = [f"00-{trace.trace_id}-{found[at].span_id.hex()}-01" for at in (0, 1, 1)]
    assert upstream.sent("traceparent") == passed
    assert [span.name for span in found] == ["GET users"] * 2


@pytest.mark.parametrize(
    ("ago_s", "header", "wanted_ms"),
    [(0, "700", 650), (10, "10300", 250), (0, "3600000", 3_599_950), (3, None, 5000), (3, "", 5000), (3, "-1", 5000),
     (3, "1e3", 5000), (3, "9" * 20, 5000), (3, "²", 5000)],
)  # fmt: skip
async def test_a_call_has_the_time_that_the_request_has_left(
    upstream: Upstream, ago_s: float, header: str | None, wanted_ms: int
) -> None:
    given = request(ago_s) if header is None else request(ago_s, x_request_timeout_ms=header)
    await upstream.called(given)
    (sent,) = upstream.sent("x-request-timeout-ms")
    assert wanted_ms - 250 < int(sent or 0) <= wanted_ms


@pytest.mark.parametrize(("ago_s", "header"), [(0, "0"), (0, "20"), (2, "1000")])
async def test_a_request_whose_time_is_over_makes_no_call(upstream: Upstream, ago_s: float, header: str) -> None:
    problem = await refused(upstream, request(ago_s, x_request_timeout_ms=header))
    assert (problem.kind.status, problem.detail) == (503, "the time for this request is over")
    assert upstream.heads == []


@pytest.mark.parametrize("answer", [HANGS, PART + HANGS])
async def test_a_service_that_does_not_answer_in_time_is_given_up_and_not_asked_again(
    upstream: Upstream, answer: bytes
) -> None:
    upstream.answers = [answer]
    began = time.perf_counter()
    problem = await refused(upstream, request(x_request_timeout_ms="300"))
    assert time.perf_counter() - began < 2
    assert (problem.kind.status, problem.detail) == (503, "users did not answer in time")
    assert len(upstream.heads) == 1


@pytest.mark.parametrize(
    ("method", "failure"),
    [(method, NOTHING) for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH")]
    + [(method, PART) for method in ("GET", "PUT", "POST")],
)
async def test_an_idempotent_call_whose_connection_fails_is_made_once_more_and_no_other(
    upstream: Upstream, method: str, failure: bytes
) -> None:
    idempotent = method not in ("POST", "PATCH")
    upstream.answers = [failure, OK]
    if idempotent:
        assert (await upstream.called(request(), method)).status == 200
        assert len(upstream.heads) == 2
    upstream.answers, upstream.heads = [failure], []
    problem = await refused(upstream, request(), method=method, json={"a": 1})
    assert (problem.kind.status, problem.detail) == (503, "users cannot be reached for the moment")
    assert problem.headers["Retry-After"]
    assert len(upstream.heads) == (2 if idempotent else 1)
    assert all(head.endswith('{"a":1}') for head in upstream.heads)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid:8080"])
async def test_a_service_that_is_not_there_is_a_503(url: str) -> None:
    callee = Callee("users", Called(url=url))
    await callee.open()
    with pytest.raises(Problem) as raised:
        await callee.call(request(), "GET", "/")
    await callee.close()
    assert (raised.value.kind.status, raised.value.detail) == (503, "users cannot be reached for the moment")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 3000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"3e8\r\n%b\r\n" % (b"x" * 1000) * 3,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
    ],
    ids=["length", "chunks", "until the end"],
)
async def test_an_answer_is_read_up_to_its_limit(upstream: Upstream, answer: bytes) -> None:
    upstream.answers = [answer]
    problem = await refused(upstream, request(), answer_limit_bytes=1000)
    assert (problem.kind.status, problem.detail) == (502, "users answered with more than 1000 bytes")
    upstream.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000]
    assert len((await upstream.called(request(), answer_limit_bytes=1000)).body) == 1000


@pytest.mark.parametrize("status", [204, 302, 404, 409, 500, 503])
async def test_whatever_status_there_is_is_the_callers_to_judge(upstream: Upstream, status: int) -> None:
    upstream.answers = [b"HTTP/1.1 %d X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n" % status]
    answer = await upstream.called(request())
    assert (answer.status, answer.headers["Location"]) == (status, "/elsewhere")
    assert len(upstream.heads) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff"])
async def test_what_is_no_json_is_a_502(upstream: Upstream, body: bytes) -> None:
    upstream.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)]
    answer = await upstream.called(request())
    with pytest.raises(Problem, match="no JSON") as raised:
        answer.json()
    assert raised.value.kind.status == 502


async def test_what_is_no_http_is_a_502(upstream: Upstream) -> None:
    upstream.answers = [b"SSH-2.0-OpenSSH\r\n\r\n"]
    assert (await refused(upstream, request())).kind.status == 502


@pytest.mark.parametrize("path", ["", "users", "//elsewhere/x", "/users/../admin", "/.", "/users/.."])
async def test_a_path_that_leads_elsewhere_is_refused(upstream: Upstream, path: str) -> None:
    with pytest.raises(ValueError, match="begins with one slash"):
        await upstream.called(request(), path=path)
    assert upstream.heads == []


@pytest.mark.parametrize("part", ["a?b", "a#b", "%2e%2e", "a%2Fb", "@x", ":80", "ü", " "])
async def test_a_part_of_a_path_arrives_as_it_was_given(upstream: Upstream, part: str) -> None:
    await upstream.called(request(), path=f"/users/{part}/x")
    target = upstream.heads[0].split(" ")[1]
    assert unquote(target) == f"/users/{part}/x"
    assert "?" not in target
