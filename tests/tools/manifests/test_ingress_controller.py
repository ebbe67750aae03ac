"""Client requests as the embedded Ingress controller forwards them to the gateway."""

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.tools.manifests import http2
from tests.tools.manifests.controller import (
    ADDRESS,
    DEADLINE_S,
    HOST,
    OPEN,
    REPLACED,
    SOCKET,
    USERS,
    Controller,
    chunked,
    request,
)

CLAIMS = [
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix"),
    *("X-Forwarded-Server", "X-Forwarded-User", "Forwarded", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP"),
    *("True-Client-IP", "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-HTTP-Method-Override"),
    *("X-HTTP-Method", "X-Method-Override"),
]
"""Headers from which proxies and frameworks take the client, its address, and the requested resource."""


def spellings(name: str) -> list[str]:
    """Return the spellings of a header that some servers (CGI, WSGI) take for the same."""
    return [name, name.lower(), name.replace("-", "_")]


@pytest.mark.parametrize("name", CLAIMS)
def test_nothing_that_a_client_says_of_itself_passes(controller: Controller, name: str) -> None:
    claims = [f"{spelling}: 203.0.113.7" for spelling in spellings(name) for _ in range(2)]
    got = controller.pass_on(request(*claims))
    assert "203.0.113.7" not in str(got.headers)
    own = {"x-forwarded-for": ADDRESS, "x-forwarded-host": HOST, "x-forwarded-proto": "https"}
    assert {header: got.values(header) for header in own} == {header: [value] for header, value in own.items()}
    assert got.values("x-forwarded-port") == [str(controller.https_port)]


def test_what_serves_to_find_a_request_again_passes(controller: Controller) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    got = controller.pass_on(request("X-Request-ID: abc", f"traceparent: {trace}", "Authorization: Bearer x"))
    assert got.values("x-request-id") == ["abc"]
    assert got.values("traceparent") == [trace]
    assert got.values("authorization") == ["Bearer x"]


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Content-Type",
        "X-Forwarded-For",
        "authorization",
        "If-Match",
        "X-Mine",
    ],
)
@pytest.mark.parametrize("more", ["", ", close", ", keep-alive", ", upgrade"])
def test_a_body_that_looks_like_a_request_stays_a_body(controller: Controller, name: str, more: str) -> None:
    inner = b"DELETE /api/v1/users/1 HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
    first = request(f"Connection: {name}{more}", method="POST", body=inner, close=False)
    controller.received.clear()
    answer = controller.ask(first + request(path="/second"))
    if name == "X-Mine":
        assert controller.received.pop(0).body == inner
    else:
        assert answer.startswith(b"HTTP/1.1 400 ")
    # With `close`, the controller does not read the client's next request on the connection.
    assert [(got.method, got.path) for got in controller.received] in ([("GET", "/second")], [])


@pytest.mark.parametrize("size", [1000, 262_144, 262_145, 400_000])
@pytest.mark.parametrize("path", ["a:80", "/second"])
def test_a_body_that_is_not_read_is_no_request(controller: Controller, path: str, size: int) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
    body = inner * (size // len(inner)) + b"x" * (size % len(inner))
    controller.received.clear()
    controller.ask(request(method="POST", path=path, body=body, close=False) + request(path="/last"))
    assert {got.path for got in controller.received} <= {"/second", "/last"}


def test_http_2_is_spoken_where_it_is_agreed_upon(controller: Controller) -> None:
    with controller.connect(protocol="h2") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert connection.recv(4)[3:] == b"\x04", "the server's settings (RFC 9113, section 3.4)"


FRAMINGS = [
    *("Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5\r\nContent-Length: 5", "Content-Length: +5"),
    *("Content-Length: 5, 5", "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 0x5"),
    *("Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked, identity"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    *("X: y\r\n Content-Length: 5", "Transfer-Encoding:\tchunked", 'Transfer-Encoding: "chunked"'),
    *("Content_Length: 5", "Content-Length: -5", "Expect: x"),
    "Content-Length: 5\nTransfer-Encoding: chunked",
]
"""Heads for which servers have disagreed about the end of the body."""


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("start", ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello", ""])
def test_the_gateway_counts_the_requests_that_the_controller_counts(
    controller: Controller, framing: str, start: str
) -> None:
    head = f"POST {USERS} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{start}".encode()
    controller.received.clear()
    answers = controller.ask(head + request(path=f"{USERS}/next"))
    assert answers.count(b"HTTP/1.1 200 ") == len(controller.received)
    assert [got.method for got in controller.received] in ([], ["POST"], ["POST", "GET"])


def test_trailers_do_not_pass(controller: Controller) -> None:
    trailer = "Authorization: Bearer x\r\nX-Forwarded-For: 203.0.113.7\r\n"
    got = controller.pass_on(chunked("Trailer: Authorization", trailer=trailer))
    assert (got.body, got.values("authorization"), got.values("trailer")) == (b"hello", [], [])
    assert got.values("x-forwarded-for") == [ADDRESS]


def test_hop_by_hop_headers_end_here(controller: Controller) -> None:
    ours = ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Proxy-Authorization: Basic x"]
    got = controller.pass_on(request(*ours, "X-Mine: 1", "Connection: X-Mine"))
    for name in ("keep-alive", "proxy-connection", "te", "proxy-authorization", "x-mine", "connection"):
        assert got.values(name) == [], name


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "websocket, h2c"])
def test_an_upgrade_that_is_none_of_ours_is_a_request_as_any(controller: Controller, protocol: str) -> None:
    fields = [f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]
    sent = request("Connection: Upgrade, HTTP2-Settings", *fields, method="POST", body=b"hello")
    controller.received.clear()
    answer = controller.ask(sent)
    (got,) = controller.received
    assert (got.body, got.values("upgrade"), got.values("connection"), got.values("http2-settings")) == (
        b"hello", [], [], [],
    )  # fmt: skip
    assert b"X-Answer: of the gateway" in answer


def test_an_upgrade_in_http_1_0_is_ignored(controller: Controller) -> None:
    controller.received.clear()
    assert b"X-Answer: of the gateway" in controller.ask(request(*OPEN).replace(b"HTTP/1.1", b"HTTP/1.0"))
    (got,) = controller.received
    assert (got.values("upgrade"), got.values("connection")) == ([], [])


@pytest.mark.parametrize("query", ["limit=1;x", "a=%zz", "?&;=/:@!$'()*+,", "x=%ff"])
def test_a_query_passes_as_it_came(controller: Controller, query: str) -> None:
    controller.received.clear()
    assert controller.ask(request(path=f"{USERS}?{query}")).startswith(b"HTTP/1.1 200 ")
    assert [got.path for got in controller.received] == [f"{USERS}?{query}"]


def test_a_target_in_absolute_form_may_have_no_path(controller: Controller) -> None:
    controller.received.clear()
    controller.ask(request(path=f"https://{HOST}"))
    assert [got.path for got in controller.received] == ["/"]


@pytest.mark.parametrize("user", ["u:p", "u", ""])
def test_a_target_with_a_user_is_refused(controller: Controller, user: str) -> None:
    controller.received.clear()
    assert controller.ask(request(path=f"https://{user}@{HOST}{USERS}")).startswith(b"HTTP/1.1 400 ")
    assert controller.received == []


def test_a_websocket_reaches_the_gateway_as_one_and_so_does_its_refusal(controller: Controller) -> None:
    controller.received.clear()
    answer = controller.ask(request(*OPEN))
    (got,) = controller.received
    assert (got.values("connection"), got.values("upgrade")) == (["Upgrade"], ["websocket"])
    assert got.values("x-forwarded-for") == [ADDRESS]
    assert b"X-Answer: of the gateway" in answer


def test_what_comes_with_the_agreement_to_a_websocket_arrives(controller: Controller) -> None:
    with controller.connect() as connection:
        connection.sendall(request(*OPEN, path=SOCKET, close=False) + b"early")
        read_until(connection, b"\r\n\r\nwelcomeearly")
        connection.sendall(b"late")
        read_until(connection, b"late")


def read_until(connection: socket.socket, end: bytes) -> None:
    """Return once the data of a connection ends in some bytes."""
    got = b""
    while not got.endswith(end):
        more = connection.recv(65536)
        assert more, got
        got += more


LATE_S = 45
"""Seconds, more than the controller waits for heads (10 s) and bodies (20 s)."""
OWN = {"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}
FIELDS = {
    "nothing": (),
    "codings": ("Accept-Encoding: br;q=0.5, gzip;q=0",),
    "no coding": ("Accept-Encoding: identity",),
    "an empty coding": ("Accept-Encoding:",),
    "an agent": ("User-Agent: curl/8.0",),
    "types": ("Accept: */*", "Accept: text/html", "Content-Type: x/y"),
    "conditions": ('If-None-Match: W/"1", "2"', "Range: bytes=0-4", "Cache-Control: no-store", "Cookie: a=b; c=d"),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("framing", ["GET", "HEAD", "POST", "chunked"])
def test_fields_pass_as_they_are_and_none_is_made_up(controller: Controller, name: str, framing: str) -> None:
    fields, body = FIELDS[name], b"hello" if framing == "POST" else b""
    sent = chunked(*fields) if framing == "chunked" else request(*fields, method=framing, body=body)
    got = controller.pass_on(sent)
    framed = {"POST": [("content-length", "5")], "chunked": [("transfer-encoding", "chunked")]}.get(framing, [])
    split = [line.partition(":") for line in fields]
    own = [(header.lower(), value.strip()) for header, _, value in split]
    assert sorted(pair for pair in got.headers if pair[0] not in OWN) == sorted(own + framed)


ANSWERS = {
    "packed": b'ETag: "1-gzip"\r\nContent-Encoding: gzip\r\nContent-Type: x/y\r\nContent-Length: 5',
    "of no type": b"Content-Length: 5",
    "of no type, in chunks": b"Transfer-Encoding: chunked",
    "dated": b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 5",
    "named": b"Server: x\r\nContent-Length: 5",
    "cached": b"Cache-Control: max-age=1\r\nAge: 3\r\nVary: accept-encoding, x\r\nVary: y\r\nContent-Length: 5",
}
"""Header fields of answers, which the embedded Ingress controller leaves unchanged."""


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_pass_as_they_are(controller: Controller, name: str, method: str) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in ANSWERS[name] else b"hello"
    body = b"" if method == "HEAD" else body
    head = b"HTTP/1.1 200 OK\r\n" + ANSWERS[name]
    controller.answers[f"{USERS}/answer"] = head + b"\r\n\r\n" + body
    answer = controller.ask(request(method=method, path=f"{USERS}/answer"))
    got, _, got_body = answer.partition(b"\r\n\r\n")
    passed, sent = set(got.lower().split(b"\r\n")), set(head.lower().split(b"\r\n"))
    assert sent - passed <= ({b"transfer-encoding: chunked"} if method == "HEAD" else set[bytes]())
    assert {line.partition(b":")[0] for line in passed - sent} <= {b"date", b"server", b"connection"}
    assert got_body == body


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_what_has_no_body_is_asked_of_another_gateway_where_one_has_gone(controller: Controller, protocol: str) -> None:
    for _ in range(4):  # the gateways take turns
        with controller.connect(protocol=protocol) as connection:
            if protocol == "h2":
                connection.sendall(http2.PREFACE)
                http2.send(connection, http2.SETTINGS_FRAME, http2.headers(1, "GET", REPLACED, end=True))
                assert http2.outcome(connection, 1) == 200
            else:
                connection.sendall(request(path=REPLACED))
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def late(controller: Controller) -> Iterator[tuple[str, AbstractContextManager[socket.socket], list[bytes]]]:
    """Yield stalled clients, with the pieces that they send; each except the last is answered."""
    half = f"GET {USERS} HTTP/1.1\r\nHost:".encode()
    plain, direct = controller.http_port, controller.https_port
    for name, port, sent in (
        ("nothing", plain, b""),
        ("half a head", plain, half),
        ("no handshake", direct, b""),
        ("half a handshake", direct, b"\x16\x03\x01\x02\x00\x01"),
    ):
        yield name, socket.create_connection(("127.0.0.1", port), DEADLINE_S), [sent]
    yield "nothing in TLS", controller.connect(), [b""]
    yield "half a head in TLS", controller.connect(), [half]
    yield "half a second head", controller.connect(), [request(close=False), half]
    post = request("Content-Length: 5", method="POST", path="/nowhere", close=False)
    yield "half a body that its answer did not wait for", controller.connect(), [post, b"h"]
    yield "half a preface", controller.connect(protocol="h2"), [http2.PREFACE[:9]]
    yield "a preface", controller.connect(protocol="h2"), [http2.PREFACE]


def test_what_does_not_come_to_its_end_ends_its_connection(controller: Controller) -> None:
    """Wait for all at once, and for less than the minute that net/http gives an idle connection."""
    with ExitStack() as stack:
        waiting: dict[str, socket.socket] = {}
        for name, opened, (*before, last) in late(controller):
            waiting[name] = stack.enter_context(opened)
            for piece in before:
                waiting[name].sendall(piece)
                assert waiting[name].recv(65536)
            waiting[name].sendall(last)
        deadline = time.monotonic() + LATE_S
        for name, connection in waiting.items():
            connection.settimeout(max(deadline - time.monotonic(), 0.1))
            try:
                while connection.recv(65536):
                    pass
            except TimeoutError:
                pytest.fail(f"still open: {name}")
            except OSError:
                pass  # reset


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/users?limit=1&name=a%20b",
        "/api/v1/users/%2e%2e?q=%2F",
        "/.well-known/acme-challenge",
        "/.well-known/acme-challenge/../../api/v1/users",
        "/.well-known/acme-challenge/%2e%2e/%2e%2e/api/v1/users",
        "//.well-known/../api",
    ],
)
def test_plain_text_is_redirected_to_tls(controller: Controller, method: str, path: str) -> None:
    controller.received.clear()
    sent = request("Authorization: Bearer x", method=method, path=path).replace(
        f"Host: {HOST}".encode(), f"Host: {HOST}:{controller.http_port}".encode()
    )
    answer = controller.ask(sent, encrypted=False)
    assert answer.startswith(b"HTTP/1.1 308 "), answer
    assert f"\r\nLocation: https://{HOST}:{controller.https_port}{path}\r\n".encode() in answer
    assert controller.received == []


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/", ""),
        ("/", f"Host: {HOST}:abc"),
        ("/", f"Host: {HOST}:1:2"),
        ("/", "Host: a b"),
        ("/", "Host: a/b"),
        ("/", "Host: user@elsewhere.test"),
        ("*", f"Host: {HOST}"),
        ("/\xe9", f"Host: {HOST}"),
        ("/?\xff", f"Host: {HOST}"),
    ],
)
def test_there_is_no_redirect_to_what_is_no_url(controller: Controller, target: str, host: str) -> None:
    sent = f"GET {target} HTTP/1.0\r\n{host}".rstrip() + "\r\n\r\n"
    answer = controller.ask(sent.encode("latin-1"), encrypted=False)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer
    assert b"Location" not in answer


def test_the_challenges_of_certificate_authorities_come_in_plain_text(controller: Controller) -> None:
    path = "/.well-known/acme-challenge/GDwM7xYjjd7R0kGRXTRiMqTFRJQ3Lh5tCGbjCXxJ1Rs"
    controller.received.clear()
    assert controller.ask(request(path=path), encrypted=False).startswith(b"HTTP/1.1 200 ")
    assert [got.path for got in controller.received] == [path]


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
@pytest.mark.parametrize(
    "spelled",
    [
        "{}",
        "/{}",
        "{}/",
        "/docs/..{}",
        "/docs/%2e%2e{}",
        "/docs/..%2f..{}",
        "/.{}",
        "{}?x",
        "{}%3f",
        "{}/.",
        "{};x",
        "/x/..{}",
    ],
)
def test_what_is_for_the_cluster_alone_cannot_be_asked_for(controller: Controller, path: str, spelled: str) -> None:
    controller.received.clear()
    answer = controller.ask(request(path=spelled.format(path)))
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert controller.received == []
