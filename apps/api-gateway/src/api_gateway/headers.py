"""Headers that pass the gateway (RFC 9110, section 7.6.1). The framing of a message never does: it is written from the parsed message."""

from collections.abc import Collection, Iterable

Headers = list[tuple[bytes, bytes]]

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"upgrade"}
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
"""Headers that only the gateway may set: a client could claim anything. The gateway's own server answers Expect."""
END_TO_END = FRAMING | OURS | {
    b"age", b"allow", b"alt-svc", b"authorization", b"baggage", b"cache-control", b"cookie", b"date", b"deprecation", b"dpop", b"early-data",
    b"etag", b"expires", b"from", b"host", b"idempotency-key", b"last-modified", b"link", b"location", b"max-forwards", b"origin", b"pragma",
    b"prefer", b"priority", b"range", b"referer", b"repr-digest", b"retry-after", b"server", b"set-cookie", b"signature", b"signature-input",
    b"strict-transport-security", b"tracestate", b"user-agent", b"vary", b"via", b"warning", b"www-authenticate",
}  # fmt: skip
END_TO_END_PREFIXES = (
    b"accept", b"access-control-", b"content-", b"if-", b"ratelimit", b"sec-", b"want-", b"x-api-", b"x-auth-", b"x-content-", b"x-csrf-",
    b"x-forwarded-", b"x-frame-", b"x-http-method", b"x-original-", b"x-real-", b"x-remote-", b"x-request-",
)  # fmt: skip
"""Prefixes of fields that, like END_TO_END, are for every recipient: framing, routing, identity, content, conditions. If a hop could remove one
by naming it in Connection, it and the next hop would read different messages. Only fields unknown to HTTP may be removed in this way."""
USUAL = (b"keep-alive", b"close")
DROPPED = HOP_BY_HOP | FRAMING | OURS
DROPPED_DOWNSTREAM = HOP_BY_HOP | FRAMING | {b"date", b"x-request-id"}
"""Headers that are dropped from responses: the gateway's own server adds Date and X-Request-ID, and there must be only one of each."""


def upstream(sent: Iterable[tuple[bytes, bytes]], ours: Headers, named: Collection[bytes] = ()) -> list[bytes]:
    """Return the header lines of a request to a service, without those of framing.

    Args:
        sent: headers of the client, names in lower case.
        ours: headers of the gateway.
        named: fields that the client's Connection headers name.
    """
    lines: list[bytes] = []
    for name, value in sent:
        if name not in DROPPED and name not in named:
            lines += (name, b": ", value, b"\r\n")
    for name, value in ours:
        lines += (name, b": ", value, b"\r\n")
    return lines


def named_in(connection: bytes) -> frozenset[bytes]:
    """Return the fields that a Connection header names, which are for the next hop only."""
    if connection.lower() in USUAL:
        return frozenset()
    return frozenset(word.strip().lower() for word in connection.split(b","))


def end_to_end(name: bytes) -> bool:
    """Return whether a field is meant for every recipient, whatever a Connection header says (RFC 9110, section 7.6.1)."""
    return name in END_TO_END or name.startswith(END_TO_END_PREFIXES)


def downstream(given: Headers, length: int | None = None) -> Headers:
    """Return the headers of a response to the client.

    Args:
        given: headers of the instance, names in lower case.
        length: bytes of the body, if known.
    """
    passed: Headers = []
    named: set[bytes] = set()
    for pair in given:
        if pair[0] not in DROPPED_DOWNSTREAM:
            passed.append(pair)
        elif pair[0] == b"connection":
            named |= named_in(pair[1])
    if named:
        passed = [pair for pair in passed if pair[0] not in named or end_to_end(pair[0])]
    if length is not None:
        passed.append((b"content-length", b"%d" % length))
    return passed
