"""Which headers pass the gateway (RFC 9110, section 7.6.1)."""

from collections.abc import Collection, Iterable

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
OURS = frozenset(
    {
        b"x-request-id",
        b"x-request-timeout-ms",
        b"expect",
        b"traceparent",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"forwarded",
    }
)
"""Said by the gateway alone: a client could claim anything. To Expect its own server has answered."""
USUAL = (b"keep-alive", b"close")
DROPPED = HOP_BY_HOP | OURS


def upstream(sent: Iterable[tuple[bytes, bytes]], ours: Headers) -> list[bytes]:
    """The header lines of a request as its service gets them.

    Args:
        sent: by the client, names in lower case.
        ours: said by the gateway.
    """
    lines: list[bytes] = []
    named = named_in(value for name, value in sent if name == b"connection")
    for name, value in sent:
        if name not in DROPPED and name not in named:
            lines += (name, b": ", value, b"\r\n")
    for name, value in ours:
        lines += (name, b": ", value, b"\r\n")
    return lines


def named_in(connection: Iterable[bytes]) -> Collection[bytes]:
    """The headers that Connection headers name, which are for the next hop alone."""
    words = [word for value in connection if value.lower() not in USUAL for word in value.split(b",")]
    return {word.strip().lower() for word in words} if words else ()


def downstream(given: Headers) -> Headers:
    """The headers of an answer as the client gets them, from names in lower case."""
    named = named_in(value for name, value in given if name == b"connection")
    # The gateway's own server says when; two dates would be one too many.
    return [pair for pair in given if pair[0] not in HOP_BY_HOP and pair[0] != b"date" and pair[0] not in named]
