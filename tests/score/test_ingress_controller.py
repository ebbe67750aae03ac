"""The embedded Ingress controller as a process on loopback: what the gateway gets of a client's request."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from threading import Thread
from typing import Any

import pytest
import trustme
import yaml

from infra.ingress import OWN_PATHS
from toolchain.build import toolbox
from toolchain.cluster.addons import MANIFESTS

DEADLINE_S = 30
HOST = "api.myapp.com"
USERS = "/api/v1/users"
SOCKET = f"{USERS}/socket"
"""Where the gateway agrees to open a WebSocket."""
OPEN = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
ADDRESS = "127.0.0.2"
"""Of the client; all of 127.0.0.0/8 is this machine."""


@dataclass(frozen=True)
class Received:
    """A request as the gateway gets it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """With names in lower case."""
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for own, value in self.headers if own == name]


@dataclass(frozen=True)
class Controller:
    """A running controller, and the requests that it has passed on."""

    http_port: int
    https_port: int
    trust: ssl.SSLContext
    received: list[Received]

    @contextmanager
    def connect(self, *, encrypted: bool = True) -> Generator[socket.socket]:
        """Open a connection as a client does."""
        port = self.https_port if encrypted else self.http_port
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S, (ADDRESS, 0)) as plain:
            if not encrypted:
                yield plain
                return
            with self.trust.wrap_socket(plain, server_hostname=HOST) as connection:
                yield connection

    def ask(self, request: bytes, *, encrypted: bool = True) -> bytes:
        """Return everything that is answered to what a client sends, until the controller closes the connection."""
        with self.connect(encrypted=encrypted) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def pass_on(self, request: bytes) -> Received:
        """Return the one request that reaches the gateway."""
        self.received.clear()
        answer = self.ask(request)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        (one,) = self.received
        return one


def body_of(headers: Message, read: Callable[[int], bytes], read_line: Callable[[], bytes]) -> bytes:
    """Read a request's body, trailers included where there are any."""
    if headers.get("Transfer-Encoding") != "chunked":
        return read(int(headers.get("Content-Length", "0")))
    body = b""
    while size := int(read_line().partition(b";")[0], 16):
        body += read(size)
        read_line()
    while (trailer := read_line()) not in (b"\r\n", b""):
        body += b"trailer " + trailer
    return body


@contextmanager
def recording(received: list[Received]) -> Generator[int]:
    """Record requests in the place of the gateway, and answer each with 200; the value is its port."""

    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = body_of(self.headers, self.rfile.read, self.rfile.readline)
            headers = [(name.lower(), value) for name, value in self.headers.items()]
            received.append(Received(self.command, self.path, headers, body))
            if self.path == SOCKET:
                self.open_socket()
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.send_header("X-Answer", "of the gateway")
            self.end_headers()
            self.wfile.write(b"ok")

        def open_socket(self) -> None:
            agreement = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            self.connection.sendall(agreement + b"welcome")
            while sent := self.connection.recv(65536):
                self.connection.sendall(sent)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names that the base class looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Record nothing of a request that breaks off."""

    with Server(("127.0.0.1", 0), Recorder) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(DEADLINE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def arguments(http_port: int, https_port: int) -> list[str]:
    """Return the controller's arguments in the cluster, less those for which it needs one."""
    text = Template((MANIFESTS / "ingress.yaml").read_text()).safe_substitute(
        http_port=http_port, https_port=https_port, node="127.0.0.1"
    )
    (workload,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "DaemonSet")
    given = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    return [word for word in given if not word.startswith(("-kubernetes", "-enable-kubernetes", "-support-", "-tls-"))]


def routes(gateway: str) -> str:
    """Return the routes that the controller makes of the API's Ingress, and one as a certificate's issuer has it."""
    predicates = {"Exact": "Path", "Prefix": "PathSubtree"}
    paths = {USERS: "Prefix", "/.well-known/acme-challenge": "Prefix"} | OWN_PATHS
    made = [f'{predicates[of]}("{path}") -> "{gateway}"' for path, of in paths.items()]
    return "; ".join(f"r{number}: {route}" for number, route in enumerate(made))


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    embedded = os.environ.get("TOOLS", "embedded") == "embedded"
    assert toolbox().folder.exists() or not embedded, "the tools are not built: make tools"
    program = shutil.which("skipper", path=toolbox().path)
    if program is None:
        pytest.skip("the controller is one of the embedded cluster's tools")
    folder, authority, received = tmp_path_factory.mktemp("controller"), trustme.CA(), list[Received]()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    found = Controller(free_port(), free_port(), trust, received)
    with recording(received) as port, (folder / "log").open("w") as log:
        own = [f"-support-listener=127.0.0.1:{free_port()}", f"-inline-routes={routes(f'http://127.0.0.1:{port}')}"]
        files = [f"-tls-cert={folder / 'tls.crt'}", f"-tls-key={folder / 'tls.key'}"]
        command = [program, *arguments(found.http_port, found.https_port), *own, *files]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            await_listening(process, (found.http_port, found.https_port), folder / "log")
            yield found
        finally:
            process.kill()
            process.wait(DEADLINE_S)


def await_listening(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    """Return once a process accepts connections on every port."""
    deadline = time.monotonic() + DEADLINE_S
    waiting = list(ports)
    while waiting:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", waiting[0])) == 0:
                waiting.pop(0)
            else:
                time.sleep(0.05)


def request(*fields: str, method: str = "GET", path: str = USERS, body: bytes = b"", close: bool = True) -> bytes:
    """Return a request, after which the controller closes the connection unless another follows."""
    own = [f"Host: {HOST}", *(["Connection: close"] if close else [])]
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {path} HTTP/1.1", *own, *fields, *length]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CLAIMS = [
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix"),
    *("X-Forwarded-Server", "X-Forwarded-User", "Forwarded", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP"),
    *("True-Client-IP", "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-HTTP-Method-Override"),
    *("X-HTTP-Method", "X-Method-Override"),
]
"""Headers from which proxies and frameworks take who asks, from where, and for what."""


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
    # With `close`, the client's next request on the connection is none of the controller's.
    assert [(got.method, got.path) for got in controller.received] in ([("GET", "/second")], [])


@pytest.mark.parametrize("size", [1000, 262_144, 262_145, 400_000])
@pytest.mark.parametrize("path", ["/?a;b", "/second"])
def test_a_body_that_is_not_read_is_no_request(controller: Controller, path: str, size: int) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
    body = inner * (size // len(inner)) + b"x" * (size % len(inner))
    controller.received.clear()
    controller.ask(request(method="POST", path=path, body=body, close=False) + request(path="/last"))
    assert {got.path for got in controller.received} <= {"/second", "/last"}


def test_http_2_is_spoken_where_it_is_agreed_upon(controller: Controller) -> None:
    trust = controller.trust
    trust.set_alpn_protocols(["h2"])
    try:
        with controller.connect() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.selected_alpn_protocol() == "h2"
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            assert connection.recv(4)[3:] == b"\x04", "the server's settings (RFC 9113, section 3.4)"
    finally:
        trust.set_alpn_protocols(["http/1.1"])


def chunked(*fields: str, trailer: str = "") -> bytes:
    return request("Transfer-Encoding: chunked", *fields, method="POST") + f"5\r\nhello\r\n0\r\n{trailer}\r\n".encode()


FRAMINGS = [
    *("Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5\r\nContent-Length: 5", "Content-Length: +5"),
    *("Content-Length: 5, 5", "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 0x5"),
    *("Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked, identity"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    *("X: y\r\n Content-Length: 5", "Transfer-Encoding:\tchunked", 'Transfer-Encoding: "chunked"'),
    *("Content_Length: 5", "Content-Length: -5", "Expect: x"),
    "Content-Length: 5\nTransfer-Encoding: chunked",
]
"""Heads that servers have disagreed about, as to where the body ends."""


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
    """Return once what a connection has sent ends in some bytes."""
    got = b""
    while not got.endswith(end):
        more = connection.recv(65536)
        assert more, got
        got += more


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
