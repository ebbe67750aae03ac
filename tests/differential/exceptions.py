"""What our own proxies do that an invariant forbids, and that we cannot change: each with its reason, as narrow as it can be said."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.differential.reading import Message
from tests.differential.targets import INGRESS


@dataclass(frozen=True)
class Excepted:
    """A kind of requests for which a proxy of ours is not held to the invariants.

    Args:
        of: the proxy.
        reason: why, with its source.
        applies: whether a request is one of them.
    """

    of: str
    reason: str
    applies: Callable[[Message], bool]


def two_framings(message: Message) -> bool:
    """Whether a request has a length and is chunked."""
    return bool(message.values(b"content-length") and message.values(b"transfer-encoding"))


def old_and_chunked(message: Message) -> bool:
    """Whether a request of HTTP/1.0 is chunked."""
    return message.version == b"HTTP/1.0" and bool(message.values(b"transfer-encoding"))


def kept_and_closed(message: Message) -> bool:
    """Whether a request of HTTP/1.0 both keeps and closes its connection."""
    return message.version == b"HTTP/1.0" and {b"keep-alive", b"close"} <= message.words


def refused_head(message: Message) -> bool:
    """Whether a HEAD has a Host for which it is refused."""
    return message.method == b"HEAD" and bool(message.refused)


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
        "net/http refuses a HEAD with a wrong Host by an answer with a body, where RFC 9110, section 9.3.2 has none, and closes the connection.",
        refused_head,
    ),
)


def excepted(of: str, messages: list[Message]) -> list[Excepted]:
    """The exceptions for a proxy that apply to a client's requests."""
    return [entry for entry in EXCEPTED if entry.of == of and any(map(entry.applies, messages))]
