"""HTTP/2 in frames (RFC 9113), as a client may send them: well-formed or not."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tests.tools.manifests.controller import HOST

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PROTOCOL_ERROR, CANCEL = 1, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
"""Statuses and their index in the static table of HPACK (RFC 7541, appendix A)."""


@dataclass(frozen=True)
class Frame:
    """A frame of a stream."""

    kind: int
    flags: int
    stream: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """Return the encoded frame."""
        length = len(self.payload).to_bytes(3, "big")
        return length + bytes([self.kind, self.flags]) + self.stream.to_bytes(4, "big") + self.payload


SETTINGS_FRAME = Frame(SETTINGS, 0, 0)


def block(*fields: tuple[str, str]) -> bytes:
    """Return fields in HPACK, each as a literal without indexing."""
    return b"".join(b"\0" + b"".join(bytes([len(word)]) + word.encode() for word in field) for field in fields)


def headers(stream: int, method: str, path: str, *fields: tuple[str, str], end: bool = False) -> Frame:
    """Return the head of a request."""
    pseudo = {":method": method, ":scheme": "https", ":authority": HOST, ":path": path}
    flags = END_HEADERS | (END_STREAM if end else 0)
    return Frame(HEADERS, flags, stream, block(*pseudo.items(), *fields))


def data(stream: int, payload: bytes, *, end: bool = False) -> Frame:
    """Return a DATA frame with a piece of a body."""
    return Frame(DATA, END_STREAM if end else 0, stream, payload)


def send(connection: socket.socket, *frames: Frame) -> None:
    """Send frames in one piece."""
    connection.sendall(b"".join(frame.encoded() for frame in frames))


def frames(connection: socket.socket) -> Iterator[Frame]:
    """Yield the received frames, until the other side closes the connection."""
    while head := exactly(connection, 9):
        payload = exactly(connection, int.from_bytes(head[:3], "big"))
        yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)


def exactly(connection: socket.socket, size: int) -> bytes:
    """Return this number of bytes, or fewer where the connection ends before."""
    got = b""
    while len(got) < size and (more := connection.recv(size - len(got))):
        got += more
    return got


def outcome(connection: socket.socket, stream: int) -> int | str:
    """Return the status of a stream's answer, or the way in which it ended without one."""
    for frame in frames(connection):
        if frame.kind == SETTINGS and not frame.flags & ACK:
            send(connection, Frame(SETTINGS, ACK, 0))
        if frame.kind == GOAWAY:
            return f"GOAWAY {int.from_bytes(frame.payload[4:8], 'big')}"
        if frame.stream == stream and frame.kind == RST_STREAM:
            return f"RST_STREAM {int.from_bytes(frame.payload, 'big')}"
        if frame.stream == stream and frame.kind == HEADERS:
            return STATUSES[frame.payload[0]]
    return "closed"
