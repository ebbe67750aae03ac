"""A case: the bytes that a client sends, and the answers of the service behind the proxies."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

HOST = b"api.test"
SENDER = b"Bearer sender"
"""The token of the client that sends the cases."""
CRLF = b"\r\n"


class When(StrEnum):
    """The moment at which the service answers a request."""

    END = "end"
    HEAD = "head"


@dataclass(frozen=True)
class Script:
    """The service's answer to a request; `{number}` in the answer becomes the number of the received request.

    Args:
        answer: the bytes to send.
        when: the moment of the answer: after the whole request, or after its head already.
        close: whether the service closes the connection after its answer.
    """

    answer: bytes = (
        b"HTTP/1.1 200 OK\r\nx-recorded: {number}\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nrecorded"
    )
    when: When = When.END
    close: bool = False


ECHO = Script()


@dataclass(frozen=True)
class Case:
    """One connection of a client.

    Args:
        name: a unique name, `group/what`.
        pieces: bytes, each sent as a segment of its own.
        script: the service's answers to the requests.
        half_close: whether the client ends its side of the connection after the last piece.
        compared: whether the references treat it alike every time, so that a difference from them is meaningful.
    """

    name: str
    pieces: tuple[bytes, ...]
    script: Script = field(default=ECHO)
    half_close: bool = False
    compared: bool = True

    @property
    def raw(self) -> bytes:
        """Return all bytes that the client sends."""
        return b"".join(self.pieces)

    def split(self, at: int) -> "Case":
        """Return the case with the same bytes in two segments."""
        return replace(self, name=f"{self.name}@{at}", pieces=(self.raw[:at], self.raw[at:]))

    def dripped(self) -> "Case":
        """Return the case with the same bytes in segments of one byte."""
        raw = self.raw
        return replace(self, name=f"{self.name}@each", pieces=tuple(raw[i : i + 1] for i in range(len(raw))))


Fields = Iterable[bytes]


def head(start: bytes, *fields: bytes, host: bytes | None = HOST, token: bytes | None = SENDER) -> bytes:
    """Return the head of a request with a start line and whole field lines, a Host and the sender's token."""
    lines = [start]
    if host is not None:
        lines.append(b"Host: " + host)
    if token is not None:
        lines.append(b"Authorization: " + token)
    return CRLF.join([*lines, *fields]) + CRLF + CRLF


def get(*fields: bytes, target: bytes = b"/s/a", method: bytes = b"GET") -> bytes:
    """Return a request without a body."""
    return head(method + b" " + target + b" HTTP/1.1", *fields)


def post(*fields: bytes, body: bytes = b"hello", target: bytes = b"/s/a", method: bytes = b"POST") -> bytes:
    """Return a request with a body of a declared length."""
    return head(method + b" " + target + b" HTTP/1.1", *fields, b"Content-Length: %d" % len(body)) + body


def chunks(*parts: bytes, trailers: Fields = (), last: bytes = b"0") -> bytes:
    """Return a chunked body with its last chunk and trailers."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return body + last + CRLF + b"".join(line + CRLF for line in trailers) + CRLF


def chunked(*fields: bytes, body: bytes | None = None, target: bytes = b"/s/a", method: bytes = b"POST") -> bytes:
    """Return a request with a chunked body, given as it is sent."""
    start = method + b" " + target + b" HTTP/1.1"
    return head(start, *fields, b"Transfer-Encoding: chunked") + (chunks(b"hello") if body is None else body)


def letter_cases(name: bytes) -> dict[str, bytes]:
    """Return a field's name in the letter cases that matter to a careless comparison."""
    return {"lower": name.lower(), "title": name.title(), "upper": name.upper(), "swapped": name.title().swapcase()}
