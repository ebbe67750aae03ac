"""Requests that break off or are malformed in their body: the embedded Ingress controller answers and counts them as the client's fault."""

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.tools.manifests import http2
from tests.tools.manifests.controller import DEADLINE_S, HOST, USERS, Controller, request
from tests.tools.manifests.http2 import data, headers

NEXT = request(path=f"{USERS}/next")
CHUNKS = {
    "no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "no number after a piece": b"5\r\nhello\r\nzz\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "nothing": b"\r\nhello\r\n0\r\n\r\n",
    "more than 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "longer than its size": b"5\r\nhelloxx0\r\n\r\n",
    "nothing after it": b"5\r\nhello0\r\n\r\n",
    "a bare LF": b"5\nhello\n0\n\n",
    "a long line": b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "long extensions": (b"1;" + b"x" * 3000 + b"\r\nx\r\n") * 100 + b"0\r\n\r\n",
    "a trailer without a name": b"5\r\nhello\r\n0\r\n: x\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nx\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\n x: y\r\n\r\n",
    "NUL in a trailer": b"5\r\nhello\r\n0\r\nx: \0\r\n\r\n",
    "large trailers": b"5\r\nhello\r\n0\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
}
"""Malformed chunked bodies (RFC 9112, section 7.1)."""


def post(framing: str) -> bytes:
    return request(framing, method="POST", close=False)


@contextmanager
def no_error_counted(controller: Controller) -> Generator[None]:
    """Check that the request is counted once, and not as an error of the service."""
    before = controller.counts()
    yield
    deadline = time.monotonic() + DEADLINE_S
    while sum((after := controller.counts()).values()) <= sum(before.values()):
        assert time.monotonic() < deadline, after
        time.sleep(0.05)
    more = {status for status, count in after.items() if count > before.get(status, 0)}
    assert all(400 <= status < 500 for status in more), more


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_that_are_none_are_refused(controller: Controller, name: str) -> None:
    controller.received.clear()
    with no_error_counted(controller):
        answer = controller.ask(post("Transfer-Encoding: chunked") + CHUNKS[name] + NEXT)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), answer
    assert b"\r\nConnection: close" in head
    assert body.startswith(b"The body cannot be read: ")
    assert body.count(b"HTTP/1.1") == 0, "an answer to what follows"
    assert controller.received == []


@pytest.mark.parametrize(
    "target", ["api.myapp.com:80", "https:api/v1/users", "x:@elsewhere.test/", f"{USERS}?limit=1#x", f"{USERS}#x"]
)
@pytest.mark.parametrize("encrypted", [True, False])
def test_a_target_that_is_no_path_is_refused(controller: Controller, target: str, *, encrypted: bool) -> None:
    controller.received.clear()
    assert controller.ask(request(path=target), encrypted=encrypted).startswith(b"HTTP/1.1 400 ")
    assert controller.received == []


@pytest.mark.parametrize("port", [",elsewhere.test", ":abc", ":-1", ":1:2", ":8443,elsewhere.test"])
def test_a_host_that_is_none_is_refused(controller: Controller, port: str) -> None:
    controller.received.clear()
    sent = request().replace(f"Host: {HOST}".encode(), f"Host: {HOST}{port}".encode())
    assert controller.ask(sent).startswith(b"HTTP/1.1 400 ")
    assert controller.received == []


BROKEN = {
    "a length": ("Content-Length: 10", b"hello"),
    "a length, before the body": ("Content-Length: 10", b""),
    "a chunk": ("Transfer-Encoding: chunked", b"a\r\nhello"),
    "a size": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n1"),
    "the end": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n"),
    "trailers": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\nx: y\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_that_breaks_off_is_refused(controller: Controller, name: str) -> None:
    framing, start = BROKEN[name]
    with no_error_counted(controller), controller.connect() as connection:
        connection.sendall(post(framing) + start)
        socket.socket.shutdown(connection, socket.SHUT_WR)  # half-closed in TCP alone: the client still reads
        assert connection.recv(65536).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 499 "))


@pytest.mark.parametrize("name", BROKEN)
def test_a_client_that_leaves_in_its_body_is_no_error(controller: Controller, name: str) -> None:
    framing, start = BROKEN[name]
    with no_error_counted(controller), controller.connect() as connection:
        connection.sendall(post(f"{framing}\r\nExpect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(start)


def declared(*lengths: str, end: bool = False) -> http2.Frame:
    return headers(1, "POST", USERS, *(("content-length", length) for length in lengths), end=end)


TRAILERS = http2.block(("x", "y"))
STREAMS = {
    "shorter": (declared("5"), data(1, b"hel", end=True)),
    "longer": (declared("3"), data(1, b"hello", end=True)),
    "longer, in two pieces": (declared("3"), data(1, b"hel"), data(1, b"lo", end=True)),
    "longer than nothing": (declared("0"), data(1, b"hello", end=True)),
    "empty": (declared("5"), data(1, b"", end=True)),
    "none": (declared("5", end=True),),
    "no number": (declared("five"), data(1, b"hello", end=True)),
    "a sign": (declared("+5"), data(1, b"hello", end=True)),
    "a list": (declared("5, 5"), data(1, b"hello", end=True)),
    "nothing": (declared(""), data(1, b"", end=True)),
    "more than 63 bits": (declared("9223372036854775808"), data(1, b"hello", end=True)),
    "a target that is none": (headers(1, "GET", "api.myapp.com:80", end=True),),
    **{
        f"the method {method!r}": (headers(1, method, USERS, end=True),)
        for method in ("GE T", "GET ", "G(T", "GE\tT", "GET,", "G\x7fT")
    },
    "a whole URL as path": (headers(1, "GET", f"https://elsewhere.test{USERS}", end=True),),
    "a fragment": (headers(1, "GET", f"{USERS}?limit=1#x", end=True),),
    "another host": (headers(1, "GET", USERS, ("host", "elsewhere.test"), end=True),),
    "two hosts": (headers(1, "GET", USERS, ("host", HOST), ("host", "elsewhere.test"), end=True),),
    "two lengths": (declared("5", "6"), data(1, b"hello", end=True)),
    "shorter, with trailers": (declared("6"), data(1, b"hello"), http2.Frame(http2.HEADERS, 5, 1, TRAILERS)),
    "trailers without an end": (declared("5"), data(1, b"hello"), http2.Frame(http2.HEADERS, 4, 1, TRAILERS)),
    "pseudo trailers": (
        declared("5"),
        data(1, b"hello"),
        http2.Frame(http2.HEADERS, 5, 1, http2.block((":path", "/"))),
    ),
}
"""Malformed requests, most of which declare their body wrongly (RFC 9113, sections 8.1 and 8.1.1)."""


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_malformed_is_refused_and_its_connection_goes_on(controller: Controller, name: str) -> None:
    controller.received.clear()
    before = controller.counts()
    with controller.connect(protocol="h2") as connection:
        connection.sendall(http2.PREFACE)
        http2.send(connection, http2.SETTINGS_FRAME, *STREAMS[name])
        assert http2.outcome(connection, 1) in (400, f"RST_STREAM {http2.PROTOCOL_ERROR}")
        http2.send(connection, headers(3, "GET", f"{USERS}/next", end=True))
        assert http2.outcome(connection, 3) == 200
    assert [got.path for got in controller.received] == [f"{USERS}/next"]
    counted = {status for status, count in controller.counts().items() if count > before.get(status, 0)}
    assert all(status < 500 for status in counted), counted


@pytest.mark.parametrize("end", [http2.Frame(http2.RST_STREAM, 0, 1, http2.CANCEL.to_bytes(4, "big")), None])
def test_a_stream_that_breaks_off_is_no_error(controller: Controller, end: http2.Frame | None) -> None:
    with no_error_counted(controller), controller.connect(protocol="h2") as connection:
        connection.sendall(http2.PREFACE)
        http2.send(
            connection, http2.SETTINGS_FRAME, declared("5"), data(1, b"hel"), http2.Frame(http2.PING, 0, 0, b"x" * 8)
        )
        assert any(frame.kind == http2.PING for frame in http2.frames(connection)), "the stream is open"
        http2.send(connection, *([end] if end else []))


def test_a_gateway_that_fails_stays_at_fault(controller: Controller) -> None:
    before = controller.counts()
    controller.answers[f"{USERS}/failing"] = b"no HTTP\r\n\r\n"
    answer = controller.ask(request(method="POST", path=f"{USERS}/failing", body=b"hello"))
    assert answer.startswith(b"HTTP/1.1 5"), answer
    assert sum(controller.counts().values()) > sum(before.values())
