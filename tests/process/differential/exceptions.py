"""Violations of invariants by our own proxies that we cannot change: each with its reason, and as narrow as possible."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.process.differential.reading import MalformedError, Message, length_of, words_of
from tests.process.differential.targets import INGRESS

CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Pattern of the bytes that no field value may hold (RFC 9110, section 5.5)."""


@dataclass(frozen=True)
class Excepted:
    """A kind of request that exempts a proxy of ours from the invariants.

    Args:
        of: the proxy.
        reason: the reason, with its source.
        applies: a function that returns whether a request is of this kind.
    """

    of: str
    reason: str
    applies: Callable[[Message], bool]


def two_framings(message: Message) -> bool:
    """Return whether a request has a length and is chunked."""
    return bool(message.values(b"content-length") and message.values(b"transfer-encoding"))


def old_and_chunked(message: Message) -> bool:
    """Return whether a request of HTTP/1.0 is chunked."""
    return message.version == b"HTTP/1.0" and bool(message.values(b"transfer-encoding"))


def kept_and_closed(message: Message) -> bool:
    """Return whether a request of HTTP/1.0 both keeps and closes its connection."""
    return message.version == b"HTTP/1.0" and {b"keep-alive", b"close"} <= message.words


def refused_head(message: Message) -> bool:
    """Return whether a HEAD has a Host, a framing or a field for which it is refused."""
    odd = any(CONTROL.search(value) for _, value in message.headers)
    return message.method == b"HEAD" and (bool(message.refused) or odd or without_length(message))


def without_length(message: Message) -> bool:
    """Return whether the end of a request is unknown: its lengths are invalid or differ, or its coding is not chunked alone."""
    codings = [word.lower() for word in words_of(message.values(b"transfer-encoding"))]
    try:
        length_of(message.values(b"content-length"))
    except MalformedError:
        return True
    return codings not in ([], [b"chunked"])


EXCEPTED = (
    Excepted(
        INGRESS,
        "net/http reads such a request by its chunks and keeps the connection, where RFC 9112, section 6.1 has it closed; no handler can tell, "
        "since the length is deleted before it (readTransfer in transfer.go). It is one client's connection, and both its ends read it alike.",
        two_framings,
    ),
    Excepted(
        INGRESS,
        "net/http ignores Transfer-Encoding in HTTP/1.0 and deletes it (https://go.dev/issue/12785), where RFC 9112, section 6.1 has it refused.",
        old_and_chunked,
    ),
    Excepted(
        INGRESS,
        "net/http keeps the connection of an HTTP/1.0 request with both options, where RFC 9112, section 9.3 has it closed.",
        kept_and_closed,
    ),
    Excepted(
        INGRESS,
        "net/http refuses a HEAD with a wrong Host, framing or field by an answer with a body, where RFC 9110, section 9.3.2 has none, and closes the "
        "connection.",
        refused_head,
    ),
)


def excepted(of: str, messages: list[Message]) -> list[Excepted]:
    """Return the exceptions for a proxy that apply to a client's requests."""
    return [entry for entry in EXCEPTED if entry.of == of and any(map(entry.applies, messages))]
