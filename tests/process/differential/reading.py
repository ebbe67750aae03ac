"""The one reading of a client's bytes that RFC 9112 allows: the requests in them, and the point where they stop being requests.

Where the RFC leaves a choice between refusing and one repair (a bare LF as a line's end, a folded line, a list of equal lengths), the
repair is read: a proxy that refuses is right as well. Where it demands a refusal, the reading ends with an error.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
TARGET = re.compile(rb"(?:/|\*|[A-Za-z][A-Za-z0-9+.-]*:)[^\x00-\x20\x7f]*")
VERSION = re.compile(rb"HTTP/1\.[0-9]")
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
CHUNK_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:(?://)?([^/?#]*)(.*)", re.DOTALL)
ENCODED = re.compile(rb"[^A-Za-z0-9._~/?%-]")
LENGTH_LIMIT = 2**63

Headers = list[tuple[bytes, bytes]]


class End(StrEnum):
    """The way in which a client's bytes end."""

    WHOLE = "whole"
    """An end with the last byte of a request."""
    UNFINISHED = "unfinished"
    """An end within a request that may continue."""
    ERROR = "error"
    """An end with bytes that RFC 9112 requires a server to refuse."""
    CLOSED = "closed"
    """An end with a request that is the connection's last."""


class MalformedError(Exception):
    """Error for bytes that are not a request."""


class UnfinishedError(Exception):
    """Error for a request that needs more bytes."""


@dataclass
class Message:
    """A request."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    body: bytes = b""
    whole: bool = False
    refused: str = ""
    """Reason why RFC 9112 requires a refusal, where its end is known all the same, so that the connection may go on."""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        return [value for key, value in self.headers if key == name]

    @property
    def words(self) -> set[bytes]:
        """Return the options in Connection, in lower case."""
        return {word.lower() for word in words_of(self.values(b"connection"))}

    @property
    def targets(self) -> set[bytes]:
        """Return the targets that an intermediary may forward: its own, and that in origin-form, each with or without a fragment.

        See RFC 9112, section 3.2.1.
        """
        found = {self.target}
        if absolute := ABSOLUTE.fullmatch(self.target):
            path = absolute[2]
            found.add(path if path.startswith(b"/") else b"/" + path)
        return found | {target.partition(b"#")[0] for target in found}

    @property
    def hosts(self) -> list[bytes]:
        """Return the hosts that the request may name: that of its target, where it has one, before that of the field (RFC 9112, section 3.2.2)."""
        absolute = ABSOLUTE.fullmatch(self.target)
        named = [absolute[1].rpartition(b"@")[2]] if absolute else []
        return named + self.values(b"host")

    @property
    def last(self) -> bool:
        """Return whether the connection ends with the request (RFC 9112, sections 6.1 and 9.3)."""
        both = bool(self.values(b"transfer-encoding") and self.values(b"content-length"))
        old = self.version == b"HTTP/1.0" and b"keep-alive" not in self.words
        return both or old or b"close" in self.words

    @property
    def websocket(self) -> bool:
        """Return whether the request asks for a WebSocket (RFC 6455, section 4.1)."""
        return b"upgrade" in self.words and b"websocket" in [value.lower() for value in self.values(b"upgrade")]


@dataclass
class Reading:
    """The requests in a client's bytes; the last one may be unfinished."""

    messages: list[Message]
    end: End
    reason: str = ""
    malformed: bytes = b""
    """Bytes from the start of the request that is malformed or unfinished."""

    @property
    def whole(self) -> list[Message]:
        """Return the complete requests."""
        return [message for message in self.messages if message.whole]


def read(raw: bytes) -> Reading:
    """Read a client's bytes."""
    messages: list[Message] = []
    cursor = Cursor(raw)
    try:
        while cursor.skip_empty_lines():
            message = cursor.head()
            messages.append(message)
            cursor.body(message)
            message.whole = True
            if message.last:
                return Reading(messages, End.CLOSED)
    except MalformedError as error:
        return Reading(messages, End.ERROR, str(error), raw[cursor.start :])
    except UnfinishedError:
        return Reading(messages, End.UNFINISHED, malformed=raw[cursor.start :])
    # After an empty line, which may be skipped, another request is due.
    return Reading(messages, End.WHOLE if cursor.start == cursor.end else End.UNFINISHED)


class Cursor:
    """A position in a client's bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        self.start = 0
        """Start of the current request."""
        self.end = 0
        """End of the previous request."""

    def skip_empty_lines(self) -> bool:
        """Skip empty lines before a request line (RFC 9112, section 2.2); return whether more follows."""
        self.end = self.at
        while self.raw[self.at : self.at + 1] in (b"\r", b"\n"):
            self.at += 1
        self.start = self.at
        return self.at < len(self.raw)

    def line(self, *, strict: bool = False) -> bytes:
        """Read the next line, which a single LF may end unless it is strict."""
        end = self.raw.find(b"\n", self.at)
        if end < 0:
            raise UnfinishedError
        line = self.raw[self.at : end]
        self.at = end + 1
        if strict and not line.endswith(b"\r"):
            raise MalformedError("a bare LF ends a line of chunks")
        line = line.removesuffix(b"\r")
        if b"\r" in line or (b"\0" in line and not strict):  # a chunk's extensions are dropped whatever they hold
            raise MalformedError("a bare CR or NUL")
        return line

    def head(self) -> Message:
        """Read a request line and its fields."""
        line = self.line()
        words = [word for word in line.split(b" ") if word]
        if len(words) != 3 or line.startswith(b" "):
            raise MalformedError("the request line has not three words")
        method, target, version = words
        if not TOKEN.fullmatch(method):
            raise MalformedError("the method is no token")
        if not TARGET.fullmatch(target) and method != b"CONNECT":
            raise MalformedError("the target has none of the forms of targets")
        if not VERSION.fullmatch(version):
            raise MalformedError("the version is none of HTTP/1")
        message = Message(method, target, version, self.fields())
        message.refused = wrong_host(message)
        return message

    def fields(self) -> Headers:
        """Read field lines up to the empty one."""
        lines: list[bytes] = []
        while line := self.line():
            if line[:1] in b" \t":
                if not lines:
                    raise MalformedError("white space before the first field")
                lines[-1] += b" " + line.strip(b" \t")
            else:
                lines.append(line)
        fields: Headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.fullmatch(name):
                raise MalformedError("a field line without a name that is a token, right before its colon")
            fields.append((name.lower(), value.strip(b" \t")))
        return fields

    def body(self, message: Message) -> None:
        """Read the body that belongs to a head (RFC 9112, section 6.3)."""
        codings = message.values(b"transfer-encoding")
        length = length_of(message.values(b"content-length"))
        if codings:
            # A proxy would have to decode any coding other than chunked alone; such a request is refused (section 6.1).
            if [word.lower() for word in words_of(codings) if word] != [b"chunked"]:
                raise MalformedError("a transfer coding that is not chunked alone")
            if message.version == b"HTTP/1.0":
                raise MalformedError("a transfer coding in HTTP/1.0")
            self.chunks(message)
        elif length:
            message.body = self.raw[self.at : self.at + length]
            self.at += len(message.body)
            if len(message.body) < length:
                raise UnfinishedError

    def chunks(self, message: Message) -> None:
        """Read a chunked body (RFC 9112, section 7.1)."""
        while True:
            size_line = CHUNK_SIZE.fullmatch(self.line(strict=True))
            if size_line is None:
                raise MalformedError("a chunk's size is no number")
            size = int(size_line[1], 16)
            if not size:
                self.trailers()
                return
            data = self.raw[self.at : self.at + size]
            self.at += len(data)
            message.body += data
            if len(data) < size:
                raise UnfinishedError
            end = self.raw[self.at : self.at + 2]
            if end != b"\r\n"[: len(end)]:
                raise MalformedError("a chunk is longer than its size")
            if len(end) < 2:
                raise UnfinishedError
            self.at += 2

    def trailers(self) -> None:
        """Skip lines up to the empty one; a proxy may drop trailers whatever their names are."""
        while line := self.line():
            if b":" not in line and line[:1] not in b" \t":
                raise MalformedError("a trailer without a colon")


def canonical(target: bytes) -> bytes:
    """Return a target with all characters percent-encoded except unreserved ones and delimiters, since proxies differ in what they encode."""
    return ENCODED.sub(lambda found: b"%%%02X" % found[0][0], target)


def words_of(values: list[bytes]) -> list[bytes]:
    """Return the elements of a list-valued field, empty ones too (RFC 9110, section 5.6.1)."""
    return [word.strip(b" \t") for value in values for word in value.split(b",")]


def length_of(values: list[bytes]) -> int:
    """Return the length that Content-Length fields declare; a list of equal ones counts as one (RFC 9112, section 6.3)."""
    words = set(words_of(values))
    if not words:
        return 0
    if len(words) > 1 or not all(re.fullmatch(rb"[0-9]+", word) for word in words):
        raise MalformedError("Content-Length is no number, or more than one")
    digits = words.pop().lstrip(b"0") or b"0"
    if len(digits) > 19 or (length := int(digits)) >= LENGTH_LIMIT:
        raise MalformedError("Content-Length is larger than any body")
    return length


def wrong_host(message: Message) -> str:
    """Return the error of a missing, repeated or invalid Host (RFC 9112, section 3.2); empty where it is valid."""
    hosts = message.values(b"host")
    if len(hosts) > 1 or (not hosts and message.version != b"HTTP/1.0"):
        return "not one Host"
    if hosts and not HOST.fullmatch(hosts[0]):
        return "Host is no host"
    return ""
