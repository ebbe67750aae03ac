"""Which headers pass the gateway (RFC 9110, section 7.6.1)."""

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
OURS = frozenset(
    {
        b"host",
        b"x-request-id",
        b"traceparent",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"forwarded",
    }
)
"""Said by the gateway alone: a client could claim anything."""


def without_hop_by_hop(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that are for the other end, less those that Connection names."""
    all_headers = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in all_headers if name == b"connection" for word in value.split(b",")}
    return [(name, value) for name, value in all_headers if name not in HOP_BY_HOP and name not in named]


def upstream(
    headers: Iterable[tuple[bytes, bytes]], client: str, host: bytes, scheme: str, request_id: str, traceparent: str
) -> Headers:
    """The headers of a request as its service gets them."""
    passed = [(name, value) for name, value in without_hop_by_hop(headers) if name not in OURS]
    return [
        *passed,
        (b"host", host),
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-host", host),
        (b"x-forwarded-proto", scheme.encode()),
        (b"x-request-id", request_id.encode()),
        (b"traceparent", traceparent.encode()),
    ]
