"""The embedded Ingress controller as a process on loopback, before a recorder in place of the gateway."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
import trustme
import yaml

from estate.cluster.addons import MANIFESTS
from estate.stack.target import embedded
from estate.tools.build import toolbox
from infra.ingress import OWN_PATHS

DEADLINE_S = 30
HOST = "api.myapp.com"
USERS = "/api/v1/users"
SOCKET = f"{USERS}/socket"
"""Path at which the gateway agrees to open a WebSocket."""
REPLACED = "/replaced"
"""Path at which one of two gateways has just gone away."""
CLOSED_PORT = 1
OPEN = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
ADDRESS = "127.0.0.2"
"""Address of the client; all of 127.0.0.0/8 is this machine."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Received:
    """A request as the gateway receives it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Header fields, with names in lower case."""
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for own, value in self.headers if own == name]


@dataclass(frozen=True)
class Controller:
    """A running controller, and the requests that it has forwarded."""

    trust: ssl.SSLContext
    http_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)
    support_port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list[Received])
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Answers of the gateway for each path with an unusual one."""

    @contextmanager
    def connect(self, *, encrypted: bool = True, protocol: str = "http/1.1") -> Generator[socket.socket]:
        """Yield a connection, opened as a client does."""
        port = self.https_port if encrypted else self.http_port
        self.trust.set_alpn_protocols([protocol])
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S, (ADDRESS, 0)) as plain:
            if not encrypted:
                yield plain
                return
            with self.trust.wrap_socket(plain, server_hostname=HOST) as connection:
                assert connection.selected_alpn_protocol() == protocol
                yield connection

    def ask(self, request: bytes, *, encrypted: bool = True) -> bytes:
        """Return all bytes of the answer to a client's request, until the controller closes the connection."""
        with self.connect(encrypted=encrypted) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def pass_on(self, request: bytes) -> Received:
        """Send a request, and return the one that reaches the gateway."""
        self.received.clear()
        answer = self.ask(request)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        (one,) = self.received
        return one

    def counts(self) -> dict[int, int]:
        """Return the number of requests that the controller has counted for each status of their answers."""
        with urlopen(f"http://127.0.0.1:{self.support_port}/metrics", timeout=DEADLINE_S) as answer:
            page = answer.read().decode()
        found: dict[int, int] = {}
        for labels, count in re.findall(
            r"^skipper_serve_host_duration_seconds_count\{(.*)\} (\d+)$", page, re.MULTILINE
        ):
            (code,) = re.findall(r'code="(\d+)"', labels)
            found[int(code)] = found.get(int(code), 0) + int(count)
        return found


def body_of(headers: Message, read: Callable[[int], bytes], read_line: Callable[[], bytes]) -> bytes:
    """Read a request's body, trailers included where there are any.

    Raises:
        EOFError: it breaks off.
        ValueError: it breaks off, or is malformed.
    """
    if headers.get("Transfer-Encoding") != "chunked":
        return whole(read, int(headers.get("Content-Length", "0")))
    body = b""
    while size := int(read_line().partition(b";")[0], 16):
        body += whole(read, size + 2)[:-2]
    while (trailer := read_line()) != b"\r\n":
        if not trailer:
            raise EOFError
        body += b"trailer " + trailer
    return body


def whole(read: Callable[[int], bytes], size: int) -> bytes:
    got = read(size)
    if len(got) < size:
        raise EOFError
    return got


@contextmanager
def recording(received: list[Received], answers: dict[str, bytes]) -> Generator[int]:
    """Yield the port of a server in place of the gateway that records requests, and answers each with 200 or as set for its path."""

    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = body_of(self.headers, self.rfile.read, self.rfile.readline)
            headers = [(name.lower(), value) for name, value in self.headers.items()]
            received.append(Received(self.command, self.path, headers, body))
            if self.path == SOCKET:
                self.open_socket()
                return
            if self.path in answers:
                self.wfile.write(answers[self.path])
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

        do_GET = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815 - the names that the base class looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore a request that breaks off."""

    with Server(("127.0.0.1", 0), Recorder) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(DEADLINE_S)


def arguments(http_port: int, https_port: int) -> list[str]:
    """Return the controller's arguments in the cluster, without those that require a cluster."""
    text = Template((MANIFESTS / "ingress.yaml").read_text()).safe_substitute(
        http_port=http_port, https_port=https_port, node="127.0.0.1"
    )
    (workload,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "DaemonSet")
    given = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    return [word for word in given if not word.startswith(("-kubernetes", "-enable-kubernetes", "-support-", "-tls-"))]


def routes(gateway: str) -> str:
    """Return the routes that the controller makes of the API's Ingress, and one like a certificate issuer's."""
    predicates = {"Exact": "Path", "Prefix": "PathSubtree"}
    paths = {USERS: "Prefix", "/.well-known/acme-challenge": "Prefix"} | OWN_PATHS
    made = [f'{predicates[of]}("{path}") -> "{gateway}"' for path, of in paths.items()]
    made.append(f'Path("{REPLACED}") -> <roundRobin, "http://127.0.0.1:{CLOSED_PORT}", "{gateway}">')
    return "; ".join(f"r{number}: {route}" for number, route in enumerate(made))


@contextmanager
def started(folder: Path) -> Generator[Controller]:
    """Run the controller for the time of the context, with its arguments in the cluster."""
    assert toolbox().folder.exists() or not embedded(), "the tools are not built: estate tools build"
    program = shutil.which("skipper", path=toolbox().path)
    if program is None:
        pytest.skip("the controller is one of the embedded cluster's tools")
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    found = Controller(ssl.create_default_context(cadata=authority.cert_pem.bytes().decode()))
    with recording(found.received, found.answers) as port, (folder / "log").open("w") as log:
        own = [
            f"-support-listener=127.0.0.1:{found.support_port}",
            f"-inline-routes={routes(f'http://127.0.0.1:{port}')}",
        ]
        files = [f"-tls-cert={folder / 'tls.crt'}", f"-tls-key={folder / 'tls.key'}"]
        command = [program, *arguments(found.http_port, found.https_port), *own, *files]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            await_listening(process, (found.http_port, found.https_port, found.support_port), folder / "log")
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


def chunked(*fields: str, trailer: str = "") -> bytes:
    """Return a request with a body in one chunk."""
    return request("Transfer-Encoding: chunked", *fields, method="POST") + f"5\r\nhello\r\n0\r\n{trailer}\r\n".encode()
