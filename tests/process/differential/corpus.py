"""The corpus: readable cases, made from data and a few combinators."""

from collections.abc import Iterator

from tests.process.differential.case import (
    CRLF,
    SENDER,
    Case,
    Script,
    When,
    chunked,
    chunks,
    get,
    head,
    letter_cases,
    post,
)

SMUGGLED = b"DELETE /s/smuggled HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\n"
"""A request as a body: it must never be parsed as a request."""
NAMED = {
    b"content-length": b"",
    b"transfer-encoding": b"",
    b"host": b"",
    b"authorization": b"",
    b"connection": b"",
    b"te": b"TE: trailers",
    b"trailer": b"Trailer: x-sum",
    b"upgrade": b"Upgrade: example/1",
    b"keep-alive": b"Keep-Alive: timeout=5",
    b"expect": b"",
    b"cookie": b"Cookie: session=1",
    b"x-request-id": b"X-Request-ID: mine",
    b"traceparent": b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"x-forwarded-for": b"X-Forwarded-For: 6.6.6.6",
    b"x-forwarded-host": b"X-Forwarded-Host: evil.test",
    b"x-forwarded-proto": b"X-Forwarded-Proto: gopher",
    b"x-request-timeout-ms": b"X-Request-Timeout-Ms: 1",
    b"forwarded": b"Forwarded: for=6.6.6.6",
    b"content-type": b"Content-Type: application/json",
    b"if-match": b'If-Match: "1"',
    b"x-own": b"X-Own: 1",
}
"""Fields that Connection may name, each with a line to add where the request does not have it anyway."""


def slug(value: bytes) -> str:
    """Return a value as a part of a case's name."""
    text = "".join(chr(b) if chr(b).isalnum() or chr(b) in "-_.+" else f"%{b:02x}" for b in value)
    return text if len(text) <= 60 else f"{text[:40]}..{len(text)}"


def named_in_connection() -> Iterator[Case]:
    """Yield cases that name every field of framing, routing and identity in Connection, as if it were hop-by-hop."""
    for name, line in NAMED.items():
        fields = (line,) if line else ()
        for style, written in letter_cases(name).items():
            yield Case(
                f"connection/{style}/{name.decode()}", (post(b"Connection: " + written, *fields, body=SMUGGLED),)
            )
        shapes = {
            "list": (b"Connection: close-not, " + name + b" , keep-alive",),
            "two-lines": (b"Connection: keep-alive", b"Connection: " + name),
            "two-lines-first": (b"Connection: " + name, b"Connection: keep-alive"),
            "empty-words": (b"Connection: ,," + name + b",,",),
            "fold": (b"Connection: keep-alive,\r\n " + name,),
            "tab": (b"Connection:\t" + name + b"\t",),
            "with-close": (b"Connection: close, " + name,),
            "quoted": (b'Connection: "' + name + b'"',),
            "proxy-connection": (b"Proxy-Connection: " + name,),
            "keep-alive-named": (b"Keep-Alive: " + name,),
        }
        for shape, lines in shapes.items():
            yield Case(f"connection/{shape}/{name.decode()}", (post(*lines, *fields, body=SMUGGLED),))
        yield Case(
            f"connection/chunked/{name.decode()}", (chunked(b"Connection: " + name, *fields, body=chunks(SMUGGLED)),)
        )
        yield Case(f"connection/get/{name.decode()}", (get(b"Connection: " + name, *fields),))
    every = b", ".join(NAMED)
    yield Case("connection/every", (post(b"Connection: " + every, body=SMUGGLED),))
    yield Case("connection/every-chunked", (chunked(b"Connection: " + every, body=chunks(SMUGGLED)),))
    yield Case("connection/long", (post(b"Connection: " + b"x-a, " * 500 + b"content-length", body=SMUGGLED),))


CODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"\tchunked", b"chunked ", b"chunked\t", b"chunked, identity", b"identity, chunked",
    b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,", b",chunked", b"xchunked", b"chunkedx",
    b"chunked;x", b"chunked; q=1", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b'"chunked"', b"'chunked'", b"", b"chunk",
    b"chunked\x00", b"ch unked", b"\xc4\x89hunked", b"deflate, chunked;q=1", b"chunked\r\n ", b"\r\n chunked", b"\r\n\tchunked",
    b"cow", b"x, chunked", b"chunked\x7f", b"\xa0chunked",
)  # fmt: skip
CODING_NAMES = (
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding",
    b"Transfer_Encoding", b"Transfer-Encoding\x00", b"Transfer\x0b-Encoding", b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding",
    b"\x00Transfer-Encoding", b"Transfer-Encoding\x0b", b"X\r\nTransfer-Encoding", b'"Transfer-Encoding"', b"Transfer-Encoding:",
    b"\xefTransfer-Encoding",
)  # fmt: skip


def transfer_encodings() -> Iterator[Case]:
    """Yield transfer codings that one parser takes for chunked and another does not, alone and with a length."""
    body = chunks(b"hello")
    start = b"POST /s/a HTTP/1.1"
    for coding in CODINGS:
        line = b"Transfer-Encoding:" + (b" " if coding[:1] not in (b" ", b"\t", b"\x0b", b"\r") else b"") + coding
        yield Case(f"te/alone/{slug(coding)}", (head(start, line) + body,))
        yield Case(f"te/then-length/{slug(coding)}", (head(start, line, b"Content-Length: 5") + body,))
        yield Case(f"te/after-length/{slug(coding)}", (head(start, b"Content-Length: %d" % len(body), line) + body,))
    for name in CODING_NAMES:
        line = name + b": chunked"
        yield Case(f"te/name/{slug(name)}", (head(start, line) + body,))
        yield Case(f"te/name-and-length/{slug(name)}", (head(start, line, b"Content-Length: 5") + body,))
    pairs = ((b"chunked", b"identity"), (b"identity", b"chunked"), (b"chunked", b"chunked"), (b"chunked", b"cow"), (b"cow", b"chunked"),
             (b"gzip", b"chunked"), (b"chunked", b""), (b"", b"chunked"))  # fmt: skip
    for first, second in pairs:
        lines = (b"Transfer-Encoding: " + first, b"Transfer-encoding: " + second)
        yield Case(f"te/two-lines/{slug(first)}+{slug(second)}", (head(start, *lines) + body,))
        yield Case(
            f"te/two-lines-length/{slug(first)}+{slug(second)}", (head(start, *lines, b"Content-Length: 5") + body,)
        )
    smuggling = chunks() + get(target=b"/s/smuggled")
    yield Case(
        "te/cl.te", (head(start, b"Content-Length: %d" % len(smuggling), b"Transfer-Encoding: chunked") + smuggling,)
    )
    hidden = chunks(get(target=b"/s/smuggled"))
    yield Case("te/te.cl", (head(start, b"Content-Length: 4", b"Transfer-Encoding: chunked") + hidden,))
    yield Case("te/te.0", (head(start, b"Content-Length: 0", b"Transfer-Encoding: chunked") + hidden,))
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"):
        yield Case(f"te/method/{method.decode()}", (chunked(method=method),))
    yield Case("te/http-1.0", (head(b"POST /s/a HTTP/1.0", b"Transfer-Encoding: chunked") + body,))
    yield Case(
        "te/http-1.0-keep-alive",
        (head(b"POST /s/a HTTP/1.0", b"Transfer-Encoding: chunked", b"Connection: keep-alive") + body,),
    )


LENGTHS = (
    b"5", b"05", b"0005", b"+5", b"-5", b"5 ", b" 5", b"5\t", b"\t5", b"5, 5", b"5,5", b"5, 6", b"6, 5", b"5,", b",5", b"5,,5", b"0x5", b"5h",
    b"5.0", b"5e0", b"0b101", b"1_0", b"", b"five", b'"5"', b"5;q=1", b"\x0b5", b"5\x0b", b"5\x00", b"5\r\n 5", b"\r\n 5", b"4", b"0", b"00", b"-0",
    b"+0", b"5 5", b"2147483647", b"4294967295", b"4294967296", b"4294967301", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616",
    b"18446744073709551621", b"99999999999999999999999999", b"0" * 200 + b"5", b"0" * 5000 + b"5", b"\xd9\xa5", b"\xc2\xa05", b"5\xa0", b"\x855",
)  # fmt: skip


def lengths() -> Iterator[Case]:
    """Yield lengths that are invalid, repeated, or that overflow."""
    start = b"POST /s/a HTTP/1.1"
    for value in LENGTHS:
        yield Case(f"length/value/{slug(value)}", (head(start, b"Content-Length: " + value) + b"hello",))
    for first, second in (
        (b"5", b"5"),
        (b"5", b"6"),
        (b"6", b"5"),
        (b"0", b"5"),
        (b"5", b"0"),
        (b"5", b"05"),
        (b"5", b""),
        (b"", b"5"),
        (b"5", b"x"),
    ):
        lines = (b"Content-Length: " + first, b"content-length: " + second)
        yield Case(f"length/two-lines/{slug(first)}+{slug(second)}", (head(start, *lines) + b"hello",))
    for name in (
        b"Content-Length ",
        b"Content-Length\t",
        b" Content-Length",
        b"Content_Length",
        b"Content-Length\x00",
        b"Content-Length:",
        b"X: y\nContent-Length",
    ):
        yield Case(f"length/name/{slug(name)}", (head(start, name + b": 5") + b"hello",))
        yield Case(f"length/name-and-own/{slug(name)}", (head(start, name + b": 0", b"Content-Length: 5") + b"hello",))
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH"):
        yield Case(f"length/method/{method.decode()}", (post(method=method),))
        yield Case(f"length/method-smuggles/{method.decode()}", (post(method=method, body=SMUGGLED),))
        yield Case(f"length/method-zero/{method.decode()}", (post(method=method, body=b""),))
    yield Case("length/none", (head(start),))
    yield Case("length/none-and-bytes", (head(start) + SMUGGLED,))
    yield Case("length/get-and-bytes", (get() + b"hello",))
    yield Case("length/more-than-declared", (post() + b"x",))
    yield Case("length/large", (post(body=b"a" * 300_000),))
    yield Case("length/large-chunked", (chunked(body=chunks(b"a" * 100_000, b"b" * 200_000)),))


CHUNK_SIZES = (
    b"5", b"05", b"0000000005", b"0" * 15 + b"5", b"0" * 16 + b"5", b"0" * 300 + b"5", b"0x5", b"5h", b"+5", b"-5", b" 5", b"5 ", b"5\t", b"\t5",
    b"5;x", b"5;x=y", b"5; x=y", b'5;x="y"',
    b'5;x="y\\""', b"5 ;x", b"5\t;x", b"5;", b"5;;", b"5,5", b"", b"5\x00", b"5;\x00", b"5;x\rz", b"5\x0b", b"g", b"five", b"5;" + b"x" * 1000,
    b"5;" + b"x" * 20000,
    b"5;a=b;c=d", b"5.0", b"5_0", b"\xef\xbc\x95", b"5\xa0", b"5 5", b"ffffffff", b"100000005", b"7fffffffffffffff", b"8000000000000000",
    b"ffffffffffffffff",
    b"10000000000000005", b"fffffffffffffffffffff5", b"-1", b"5;x\ny", b"5\ny",
)  # fmt: skip


def chunk_framing() -> Iterator[Case]:
    """Yield chunks with a size, an end or trailers that one parser takes and another does not."""
    for size in CHUNK_SIZES:
        yield Case(f"chunk/size/{slug(size)}", (chunked(body=size + CRLF + b"hello\r\n0\r\n\r\n"),))
    for size in (b"0", b"00", b"0" * 20, b"0;x", b"0 ", b" 0", b"+0", b"-0", b"0x0", b""):
        yield Case(f"chunk/last/{slug(size)}", (chunked(body=b"5\r\nhello\r\n" + size + CRLF + CRLF),))
    ends = {
        "lf-after-size": b"5\nhello\r\n0\r\n\r\n",
        "lf-after-data": b"5\r\nhello\n0\r\n\r\n",
        "lf-after-last": b"5\r\nhello\r\n0\n\r\n",
        "lf-at-end": b"5\r\nhello\r\n0\r\n\n",
        "lf-everywhere": b"5\nhello\n0\n\n",
        "cr-after-size": b"5\rhello\r\n0\r\n\r\n",
        "cr-after-data": b"5\r\nhello\r0\r\n\r\n",
        "cr-cr-lf": b"5\r\r\nhello\r\n0\r\n\r\n",
        "nothing-after-data": b"5\r\nhello0\r\n\r\n",
        "two-bytes-after-data": b"5\r\nhelloxx0\r\n\r\n",
        "data-longer": b"4\r\nhello\r\n0\r\n\r\n",
        "data-shorter": b"6\r\nhello\r\n0\r\n\r\n",
        "empty-line-before": b"\r\n5\r\nhello\r\n0\r\n\r\n",
        "extension-lf": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "last-unfinished": b"5\r\nhello\r\n0\r\n",
        "no-last": b"5\r\nhello\r\n",
        "only-last": b"0\r\n\r\n",
        "many": chunks(*[b"%d" % n for n in range(200)]),
        "smuggles": chunks(SMUGGLED),
        "looks-like-end": chunks(b"\r\n0\r\n\r\n" + SMUGGLED),
        "bytes-after": chunks(b"hello") + b"x",
        "two-lasts": chunks(b"hello") + b"0\r\n\r\n",
        "hidden-in-extension": b"2;\nxx\r\n4c\r\n" + get(target=b"/s/smuggled")[:76] + b"\r\n0\r\n\r\n",
        "bad-size-then-request": b"5\r\nhello\r\nzz\r\n" + get(target=b"/s/smuggled"),
        "bad-first-size-then-request": b"zz\r\n" + get(target=b"/s/smuggled"),
        "bad-end-then-request": b"5\r\nhelloxx" + get(target=b"/s/smuggled"),
        "lf-then-request": b"5\r\nhello\n" + get(target=b"/s/smuggled"),
        "overflow-then-request": b"fffffffffffffffff\r\n" + get(target=b"/s/smuggled"),
        "long-extension-then-request": b"5;" + b"x" * 20000 + CRLF + get(target=b"/s/smuggled"),
        "bad-trailer-then-request": b"0\r\n@ x\r\n" + get(target=b"/s/smuggled"),
        "large-trailer-then-request": b"0\r\nx: " + b"y" * 100_000 + CRLF + get(target=b"/s/smuggled"),
        "hidden-in-data-end": b"1\r\nA\nB\r\n0\r\n\r\n" + get(target=b"/s/smuggled"),
    }
    for name, body in ends.items():
        yield Case(f"chunk/end/{name}", (chunked(body=body),))
    trailers = (
        b"x-sum: 1", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Host: evil.test", b"Authorization: Bearer other", b"Connection: close",
        b"X-Forwarded-For: 6.6.6.6", b"X-Request-ID: mine", b"Cookie: a=b", b"Content-Type: text/html", b"traceparent: x", b"bad", b"bad : x",
        b" fold: x",
        b": empty", b"nul: \x00", b"x: y\nz: w", b"x: \ry", b"Trailer: x", b"Upgrade: websocket",
    )  # fmt: skip
    for trailer in trailers:
        raw = chunked(b"Trailer: x-sum", body=chunks(b"hello", trailers=(trailer,)))
        # haproxy's result for a malformed trailer depends on when it reads it.
        yield Case(f"chunk/trailer/{slug(trailer)}", (raw,), compared=trailer not in (b"bad : x", b" fold: x"))
    yield Case("chunk/trailer/authorization-alone", (head(b"POST /s/a HTTP/1.1", b"Transfer-Encoding: chunked", token=None)
               + chunks(b"hello", trailers=(b"Authorization: " + SENDER,)),))  # fmt: skip
    yield Case("chunk/trailer/get", (chunked(method=b"GET", body=chunks(trailers=(b"Authorization: Bearer other",))),))
    yield Case("chunk/trailer/many", (chunked(body=chunks(b"hello", trailers=[b"x-%d: y" % n for n in range(100)])),))
    yield Case("chunk/trailer/large", (chunked(body=chunks(b"hello", trailers=(b"x: " + b"y" * 100_000,))),))
    yield Case("chunk/trailer/pipelined", (chunked(body=chunks(b"hello", trailers=(b"x: y",))) + get(target=b"/s/b"),))


CONTROLS = (*(byte for byte in range(32) if byte not in b"\r\n"), 127, 128, 160, 255)


def control_bytes() -> Iterator[Case]:
    """Yield control bytes in each part of a head."""
    start = b"GET /s/a HTTP/1.1"
    for byte in CONTROLS:
        raw = bytes([byte])
        yield Case(f"bytes/value/{byte:02x}", (head(start, b"X-A: b" + raw + b"c"),))
        yield Case(f"bytes/name/{byte:02x}", (head(start, b"X-" + raw + b"A: b"),))
        yield Case(f"bytes/target/{byte:02x}", (get(target=b"/s/a" + raw + b"b"),))
    for byte in (0, 9, 11, 12, 127, 128):
        raw = bytes([byte])
        yield Case(f"bytes/method/{byte:02x}", (get(method=b"GE" + raw + b"T"),))
        yield Case(f"bytes/host/{byte:02x}", (head(start, host=b"api" + raw + b".test"),))
        yield Case(f"bytes/token/{byte:02x}", (head(start, token=b"Bearer a" + raw + b"b"),))
        yield Case(f"bytes/version/{byte:02x}", (head(b"GET /s/a HTTP/1" + raw + b".1"),))
        yield Case(f"bytes/query/{byte:02x}", (get(target=b"/s/a?b=" + raw),))


def line_ends() -> Iterator[Case]:
    """Yield line ends other than CRLF, and lines that are not fields."""
    whole = post()
    start = b"GET /s/a HTTP/1.1"
    yield Case("line/lf-everywhere", (get().replace(CRLF, b"\n"),))
    yield Case("line/lf-everywhere-post", (whole.replace(CRLF, b"\n"),))
    yield Case("line/cr-everywhere", (get().replace(CRLF, b"\r"),))
    yield Case("line/cr-cr-lf", (get().replace(CRLF, b"\r\r\n"),))
    for number in range(get(b"X-A: b").count(CRLF)):
        parts = get(b"X-A: b").split(CRLF)
        for name, end in (("lf", b"\n"), ("cr", b"\r"), ("lf-cr", b"\n\r"), ("cr-cr-lf", b"\r\r\n")):
            raw = CRLF.join(parts[: number + 1]) + end + CRLF.join(parts[number + 1 :])
            yield Case(f"line/{name}-at-{number}", (raw,))
    lines = {
        "space-before-colon": b"X-A : b",
        "tab-before-colon": b"X-A\t: b",
        "authorization-space": b"Authorization : Bearer other",
        "authorization-twice": b"Authorization: Bearer other",
        "authorization-empty": b"Authorization:",
        "authorization-fold": b"X: y\r\n Authorization: Bearer other",
        "host-space": b"Host : evil.test",
        "fold": b"X-A: b\r\n c",
        "fold-tab": b"X-A: b\r\n\tc",
        "fold-empty": b"X-A: b\r\n \r\n c",
        "fold-lf": b"X-A: b\n c",
        "fold-of-length": b"Content-Length:\r\n 0",
        "fold-with-field": b"X-A: b\r\n Content-Length: 5",
        "empty-name": b": b",
        "empty-value": b"X-A:",
        "no-colon": b"X-A",
        "only-colon": b":",
        "only-space": b" ",
        "space-name": b"X A: b",
        "quoted-name": b'"X-A": b',
        "name-with-slash": b"X/A: b",
        "name-with-at": b"X@A: b",
        "name-with-brackets": b"X[A]: b",
        "underscore": b"X_A: b",
        "dot": b"X.A: b",
        "non-ascii-name": b"X-\xc3\xa9: b",
        "value-with-colon": b"X-A: b: c",
        "trailing-space": b"X-A: b   ",
        "no-space": b"X-A:b",
        "two-colons": b"X-A:: b",
        "long-value": b"X-A: " + b"b" * 7000,
        "long-name": b"X-" + b"a" * 1000 + b": b",
        "x-forwarded-for": b"X-Forwarded-For: 6.6.6.6",
        "x-forwarded-for-twice": b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7",
        "x_forwarded_for": b"X_Forwarded_For: 6.6.6.6",
        "x-forwarded-proto": b"X-Forwarded-Proto: gopher",
        "x-forwarded-host": b"X-Forwarded-Host: evil.test",
        "x-request-id": b"X-Request-ID: mine",
        "x-request-timeout": b"X-Request-Timeout-Ms: 1",
        "forwarded": b"Forwarded: for=6.6.6.6;host=evil.test",
        "traceparent-twice": b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntraceparent: x",
        "cookie-twice": b"Cookie: a=b\r\nCookie: c=d",
        "te-gzip": b"TE: gzip",
        "keep-alive": b"Keep-Alive: timeout=100",
        "proxy-authorization": b"Proxy-Authorization: Basic eDp5",
        "proxy-connection": b"Proxy-Connection: keep-alive",
        "x-recorded": b"X-Recorded: 0",
        "range": b"Range: bytes=0-",
        "if-match": b'If-Match: "1"',
        "max-forwards": b"Max-Forwards: 0",
        "http2-settings": b"HTTP2-Settings: AAMAAABkAAQAAP__",
        "pseudo": b":authority: evil.test",
        "method-override": b"X-HTTP-Method-Override: DELETE",
        "original-url": b"X-Original-URL: /admin",
    }
    for name, line in lines.items():
        yield Case(f"field/{name}", (head(start, line),))
    yield Case("field/many", (head(start, *[b"X-%d: y" % n for n in range(90)]),))
    yield Case("field/space-before-first", (start + CRLF + b" X: y\r\nHost: api.test\r\n\r\n",))
    yield Case("field/tab-before-host", (start + CRLF + b"\tHost: api.test\r\n\r\n",))
    yield Case("field/none", (start + CRLF + CRLF,))
    yield Case("line/empty-before", (CRLF + get(),))
    yield Case("line/empties-before", (CRLF * 3 + get(),))
    yield Case("line/lf-before", (b"\n" + get(),))
    yield Case("line/cr-before", (b"\r" + get(),))
    yield Case("line/space-before", (b" " + get(),))
    yield Case("line/empty-between", (post() + CRLF + get(target=b"/s/b"),))
    yield Case("line/null-between", (post() + b"\0" + get(target=b"/s/b"),))


TARGETS = (
    b"http://api.test/s/a", b"HTTP://api.test/s/a", b"https://api.test/s/a", b"http://evil.test/s/a", b"http://api.test:80/s/a",
    b"http://u:p@api.test/s/a", b"http:///s/a", b"http://api.test",
    b"http://api.test?x", b"ftp://api.test/s/a", b"api.test:80", b"api.test/s/a", b"*", b"s/a", b"", b"/", b"/s", b"/s/", b"/s/a#b", b"/s/a?b#c",
    b"#", b"?a", b"/s/a?", b"/s/a??", b"/s/a?b=c&d=e",
    b"/s/a?b=%00", b"/s/a?b=%0d%0ac", b"//evil.test/s/a", b"///s/a", b"/s//a", b"/s/./a", b"/s/../s/a", b"/s/../../etc", b"/s/a/..", b"/s/a/.",
    b"/s/a/%2e%2e/b", b"/s/%2E/a", b"/s/a%2fb",
    b"/s/a%5cb", b"/s/a\\b", b"/s/a;b=c", b"/s/..;/a", b"/s/a%3bb", b"/s/a%00", b"/s/a%0a", b"/s/a%20b", b"/s/a%", b"/s/a%zz", b"/s/a%2",
    b"/s/%252e%252e/a", b"/%73/a", b"/S/a", b"/s/a:80",
    b"/s/a@b", b"/s/~a", b"/s/[a]", b"/s/{a}", b"/s/<a>", b'/s/"a"', b"/s/a|b", b"/s/a^b", b"/s/a`b", b"/s/\xc3\xa9", b"/s/%c3%a9", b"/s/%ff",
    b"/s/a?\xff", b"/s/a+b", b"/s/a!$&'()*,=", b"/s/" + b"a" * 3000,
    b"/s/a?" + b"b" * 3000, b"/s/a?http://evil.test/", b"/s/a?/../x", b"http://api.test/s/../a", b"http://api.test//s/a", b"http://[::1]/s/a",
    b"http://api.test\\@evil.test/s/a", b"http:/s/a", b"http:s/a",
    b"/s/a HTTP/1.1\nX: y", b"/s/a b", b"/s/a\tb", b"@evil.test/s/a", b":80/s/a", b".evil.test/s/a", b"/.s/a", b"/s/.a", b"/s/...", b"/s/a..b",
    b"/s/a.",
)  # fmt: skip


def request_targets() -> Iterator[Case]:
    """Yield targets in every form, and paths that have more than one meaning."""
    for target in TARGETS:
        yield Case(f"target/{slug(target)}", (get(target=target),))
    for target in (b"http://api.test/s/a", b"*", b"//evil.test/s/a", b"/s/a#b", b"/s/a/../b", b"http://evil.test/s/a"):
        yield Case(f"target/post/{slug(target)}", (post(target=target),))
    yield Case("target/options-asterisk", (get(target=b"*", method=b"OPTIONS"),))
    yield Case("target/connect-authority", (get(target=b"api.test:80", method=b"CONNECT"),))
    yield Case("target/absolute-and-other-host", (head(b"GET http://api.test/s/a HTTP/1.1", host=b"evil.test"),))
    for user in (b"u:p", b"u", b""):  # without a token of the client's, from which a proxy may derive credentials
        yield Case(f"target/user/{slug(user)}", (head(b"GET http://" + user + b"@api.test/s/a HTTP/1.1"),))
    yield Case("target/absolute-no-host", (head(b"GET http://api.test/s/a HTTP/1.1", host=None),))


METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"Get", b"post", b"PRI", b"PROPFIND",
    b"SEARCH", b"PURGE", b"LINK", b"QUERY", b"SOURCE", b"M-SEARCH",
    b"FOO", b"GETX", b"G", b"", b"X-Y", b"G!", b"G/T", b"GET,POST", b"GET\x00", b'"GET"', b"a" * 50, b"PROXY", b"RTSP", b"DESCRIBE", b"ANNOUNCE",
    b"HTTP/1.1", b"\xc3\xa9", b"1", b"SUBSCRIBE", b"REPORT",
)  # fmt: skip


def methods() -> Iterator[Case]:
    """Yield methods of all kinds, with and without a body."""
    for method in METHODS:
        yield Case(f"method/{slug(method)}", (get(method=method),))
    for method in (b"GET", b"HEAD", b"TRACE", b"CONNECT", b"PRI", b"FOO", b"get", b"QUERY"):
        yield Case(f"method/body/{slug(method)}", (post(method=method, body=SMUGGLED),))
    yield Case("method/http2-preface", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",))
    yield Case("method/proxy-protocol", (b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n" + get(),))
    yield Case("method/tls-hello", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,))


VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/1.10", b"HTTP/1.01",
    b"HTTP/01.1", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/11", b"HTTP/1.1x",
    b"http/1.1", b"Http/1.1", b"HTTP 1.1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/1.1 x", b"HTTPS/1.1", b"HTTP", b"", b"HTTP/1,1", b"HTTP/1.-1",
    b"HTTP/+1.1", b"ICE/1.0", b"RTSP/1.0", b"HTTP/1.1\t", b"HTTP/9.9",
)  # fmt: skip


def versions() -> Iterator[Case]:
    """Yield current, past, future and invalid versions of HTTP."""
    for version in VERSIONS:
        yield Case(f"version/{slug(version)}", (head(b"GET /s/a " + version),))
        yield Case(f"version/post/{slug(version)}", (head(b"POST /s/a " + version, b"Content-Length: 5") + b"hello",))
    yield Case("version/simple-request", (b"GET /s/a\r\n",))
    yield Case("version/simple-request-and-head", (b"GET /s/a\r\nHost: api.test\r\n\r\n",))
    for connection in (b"keep-alive", b"Keep-Alive", b"close", b"keep-alive, close", b"upgrade"):
        line = b"Connection: " + connection
        yield Case(f"version/1.0-{slug(connection)}", (head(b"GET /s/a HTTP/1.0", line),))
        yield Case(
            f"version/1.0-{slug(connection)}-two",
            (head(b"GET /s/a HTTP/1.0", line) + head(b"GET /s/b HTTP/1.0", line),),
        )
        yield Case(f"version/1.1-{slug(connection)}-two", (head(b"GET /s/a HTTP/1.1", line) + get(target=b"/s/b"),))
        yield Case(f"version/1.1-post-{slug(connection)}-two", (post(line) + get(target=b"/s/b"),))
    yield Case("version/1.0-no-host", (head(b"GET /s/a HTTP/1.0", host=None),))
    yield Case("version/1.0-no-length", (head(b"POST /s/a HTTP/1.0") + b"hello",))


HOSTS = (
    b"api.test", b"API.TEST", b"api.test:80", b"api.test:", b"api.test:0", b"api.test:99999", b"api.test:8x", b"api.test:-1", b"u@api.test",
    b"u:p@api.test", b"api.test/path", b"api.test?x", b"api.test#x", b"", b" ",
    b"api.test api.test", b"api.test,evil.test", b"api.test, evil.test", b"127.0.0.1", b"[::1]", b"[::1]:80", b"[::1", b"::1", b"api.test.",
    b"..", b"api..test", b"-api.test", b"api_test", b"api%2etest", b"api.test%00",
    b"\xc3\xa9.test", b"xn--9ca.test", b"api.test\\evil", b"<api>", b'"api.test"', b"http://api.test", b"api.test\tx", b"a" * 300 + b".test",
    b"*", b"api.test;x", b"api.test:80:80", b"(api)",
)  # fmt: skip


def hosts() -> Iterator[Case]:
    """Yield missing, repeated and invalid hosts."""
    start = b"GET /s/a HTTP/1.1"
    for host in HOSTS:
        yield Case(f"host/{slug(host)}", (head(start, host=host),))
    yield Case("host/head", (head(b"HEAD /s/a HTTP/1.1", host=b"u@api.test"),))
    yield Case("host/missing", (head(start, host=None),))
    yield Case("host/missing-post", (head(b"POST /s/a HTTP/1.1", b"Content-Length: 5", host=None) + b"hello",))
    for second in (b"api.test", b"evil.test", b"", b"api.test:80"):
        yield Case(f"host/twice-{slug(second)}", (head(start, b"Host: " + second),))
        yield Case(f"host/twice-first-{slug(second)}", (head(start, b"host: api.test", host=second),))
    yield Case("host/fold", (head(start, b"Host:\r\n api.test", host=None),))
    yield Case("host/fold-second", (head(start, b"Host: api.test\r\n evil.test", host=None),))
    yield Case("host/lf", (head(start, b"X: y\nHost: evil.test"),))


def upgrades() -> Iterator[Case]:
    """Yield requests for other protocols, with and without bodies (RFC 9110, section 7.8)."""
    key = (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13")
    protocols = {
        "h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        "h2c-short": (b"Connection: Upgrade", b"Upgrade: h2c"),
        "h2": (b"Connection: Upgrade", b"Upgrade: h2"),
        "tls": (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
        "http-2.0": (b"Connection: Upgrade", b"Upgrade: HTTP/2.0"),
        "unknown": (b"Connection: Upgrade", b"Upgrade: example/1, other"),
        "unnamed": (b"Upgrade: h2c",),
        "named-only": (b"Connection: Upgrade",),
        "empty": (b"Connection: Upgrade", b"Upgrade:"),
        "websocket": (b"Connection: Upgrade", b"Upgrade: websocket", *key),
        "websocket-upper": (b"CONNECTION: UPGRADE", b"UPGRADE: WEBSOCKET", *key),
        "websocket-keep-alive": (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", *key),
        "websocket-two-lines": (b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: websocket", *key),
        "websocket-two-upgrades": (b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket", *key),
        "websocket-list": (b"Connection: Upgrade", b"Upgrade: h2c, websocket", *key),
        "websocket-no-key": (b"Connection: Upgrade", b"Upgrade: websocket"),
        "websocket-old": (b"Connection: Upgrade", b"Upgrade: websocket", key[0], b"Sec-WebSocket-Version: 777"),
        "websocket-unnamed": (b"Upgrade: websocket", *key),
        "websocket-and-length": (b"Connection: Upgrade, content-length", b"Upgrade: websocket", *key),
    }
    agreed = Script(
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", close=True
    )
    for name, lines in protocols.items():
        yield Case(f"upgrade/get/{name}", (get(*lines),))
        yield Case(f"upgrade/post/{name}", (post(*lines, body=SMUGGLED),))
        yield Case(f"upgrade/chunked/{name}", (chunked(*lines, body=chunks(SMUGGLED)),))
        yield Case(f"upgrade/then/{name}", (get(*lines) + get(target=b"/s/b"),))
        yield Case(f"upgrade/post-then/{name}", (post(*lines) + get(target=b"/s/b"),))
        yield Case(f"upgrade/head/{name}", (get(*lines, method=b"HEAD"),))
    for name in ("websocket", "websocket-old", "h2c", "unnamed", "websocket-no-key"):
        yield Case(f"upgrade/agreed/{name}", (get(*protocols[name]),), agreed)
        yield Case(f"upgrade/agreed-post/{name}", (post(*protocols[name]),), agreed)
    yield Case("upgrade/1.0", (head(b"GET /s/a HTTP/1.0", *protocols["websocket"]),))
    yield Case("upgrade/unasked", (get(),), agreed)


def answer(status: bytes, *lines: bytes, body: bytes = b"", when: When = When.END, close: bool = False) -> Script:
    """Return an answer of the service."""
    fields = [b"HTTP/1.1 " + status, b"x-recorded: {number}", *lines]
    return Script(CRLF.join(fields) + CRLF + CRLF + body, when, close)


def expectations() -> Iterator[Case]:
    """Yield requests with Expect, and services that answer before they have the body (RFC 9110, sections 10.1.1 and 15.5)."""
    for value in (
        b"100-continue",
        b"100-Continue",
        b"100-continue, x",
        b"x",
        b"",
        b"100",
        b"200-ok",
        b"100-continue;x",
    ):
        line = b"Expect: " + value
        yield Case(f"expect/post/{slug(value)}", (post(line),))
        yield Case(f"expect/get/{slug(value)}", (get(line),))
        yield Case(f"expect/chunked/{slug(value)}", (chunked(line),))
        yield Case(f"expect/then/{slug(value)}", (post(line) + get(target=b"/s/b"),))
    yield Case("expect/waits-for-body", (head(b"POST /s/a HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5"),))
    yield Case(
        "expect/two-segments", (head(b"POST /s/a HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5"), b"hello")
    )
    yield Case("expect/1.0", (head(b"POST /s/a HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 5") + b"hello",))
    early = {
        "401": answer(b"401 Unauthorized", b"content-length: 2", body=b"no", when=When.HEAD),
        "413": answer(b"413 Content Too Large", b"content-length: 2", body=b"no", when=When.HEAD),
        "413-closes": answer(
            b"413 Content Too Large", b"content-length: 2", b"connection: close", body=b"no", when=When.HEAD, close=True
        ),
        "200": answer(b"200 OK", b"content-length: 2", body=b"ok", when=When.HEAD),
        "204": answer(b"204 No Content", when=When.HEAD),
        "nothing-closes": Script(b"", When.HEAD, close=True),
    }
    large = b"a" * 200_000
    for name, script in early.items():
        yield Case(f"early/post/{name}", (post(),), script)
        yield Case(f"early/large/{name}", (post(body=large),), script)
        yield Case(f"early/large-chunked/{name}", (chunked(body=chunks(large, SMUGGLED)),), script)
        yield Case(f"early/unfinished/{name}", (post(body=large)[:-10],), script)
        yield Case(f"early/unfinished-chunked/{name}", (chunked(body=chunks(large, b"x")[:-10]),), script)
        yield Case(f"early/two-segments/{name}", (post(body=large)[:100_000], post(body=large)[100_000:]), script)
        yield Case(
            f"early/smuggles/{name}",
            (head(b"POST /s/a HTTP/1.1", b"Content-Length: %d" % (200_000 + len(SMUGGLED))), large, SMUGGLED),
            script,
        )
        yield Case(f"early/then/{name}", (post(body=large) + get(target=b"/s/b"),), script)


def connections() -> Iterator[Case]:
    """Yield pipelines with an error in the middle, and clients that close their side."""
    one, two, three = get(target=b"/s/1"), post(target=b"/s/2"), get(target=b"/s/3")
    yield Case("pipeline/two", (one + two,))
    yield Case("pipeline/three", (one + two + three,))
    yield Case("pipeline/two-posts", (two + post(target=b"/s/4", body=b"world"),))
    yield Case("pipeline/chunked", (chunked(target=b"/s/1") + chunked(target=b"/s/2") + three,))
    yield Case("pipeline/segments", (one, two, three))
    yield Case("pipeline/ten", (b"".join(get(target=b"/s/%d" % n) for n in range(10)),))
    yield Case("pipeline/ten-posts", (b"".join(post(target=b"/s/%d" % n, body=b"%d" % n) for n in range(10)),))
    yield Case("pipeline/head", (get(target=b"/s/1", method=b"HEAD") + get(target=b"/s/2", method=b"HEAD") + three,))
    yield Case("pipeline/head-refused", (get(target=b"/nowhere", method=b"HEAD") + one,))
    yield Case("pipeline/refused-first", (get(target=b"/s/%2f") + one,))
    yield Case("pipeline/refused-post-first", (post(target=b"/s/%2f", body=SMUGGLED) + one,))
    yield Case("pipeline/refused-chunked-first", (chunked(target=b"/s/%2f", body=chunks(SMUGGLED)) + one,))
    yield Case("pipeline/nowhere-post-first", (post(target=b"/nowhere", body=SMUGGLED) + one,))
    yield Case("pipeline/nowhere-chunked-first", (chunked(target=b"/nowhere", body=chunks(SMUGGLED)) + one,))
    yield Case("pipeline/nowhere-large-first", (post(target=b"/nowhere", body=b"a" * 100_000 + SMUGGLED) + one,))
    yield Case("pipeline/method-refused-first", (post(method=b"TRACE", body=SMUGGLED) + one,))
    yield Case("pipeline/expect-refused-first", (post(b"Expect: x", body=SMUGGLED) + one,))
    yield Case("pipeline/large-then", (post(target=b"/s/1", body=b"a" * 200_000) + two + three,))
    wrong = {
        "garbage": b"\x00\x01\x02\r\n\r\n",
        "no-host": head(b"GET /s/2 HTTP/1.1", host=None),
        "two-hosts": get(b"Host: evil.test", target=b"/s/2"),
        "bad-method": get(method=b"G@T", target=b"/s/2"),
        "bad-version": head(b"GET /s/2 HTTP/7.0"),
        "bad-field": get(b"X A: b", target=b"/s/2"),
        "bad-length": head(b"POST /s/2 HTTP/1.1", b"Content-Length: x") + b"hello",
        "two-lengths": head(b"POST /s/2 HTTP/1.1", b"Content-Length: 5", b"Content-Length: 6") + b"hello",
        "bad-chunk": chunked(target=b"/s/2", body=b"zz\r\nhello\r\n0\r\n\r\n"),
        "te-and-length": head(b"POST /s/2 HTTP/1.1", b"Content-Length: 3", b"Transfer-Encoding: chunked")
        + chunks(b"hello"),
        "close": get(b"Connection: close", target=b"/s/2"),
        "http-1.0": head(b"GET /s/2 HTTP/1.0"),
        "upgrade": get(b"Connection: Upgrade", b"Upgrade: websocket", target=b"/s/2"),
        "h2c": post(b"Connection: Upgrade", b"Upgrade: h2c", target=b"/s/2"),
        "connection-length": post(b"Connection: content-length", target=b"/s/2", body=SMUGGLED),
        "nul": get(b"X: \x00", target=b"/s/2"),
        "large-field": get(b"X: " + b"y" * 100_000, target=b"/s/2"),
        "expect": post(b"Expect: 100-continue", target=b"/s/2"),
        "connect": get(target=b"api.test:80", method=b"CONNECT"),
    }
    for name, raw in wrong.items():
        yield Case(f"pipeline/middle/{name}", (one + raw + three,))
        yield Case(f"pipeline/middle-post/{name}", (two + raw + three,))
        yield Case(f"pipeline/first/{name}", (raw + three,))
        yield Case(f"pipeline/segments/{name}", (one, raw, three))
    for name, raw in {
        "get": one,
        "post": two,
        "chunked": chunked(),
        "two": one + two,
        "head": get(method=b"HEAD"),
        "none": b"",
    }.items():
        yield Case(
            f"half-close/{name}", (raw,), half_close=True, compared=False
        )  # nginx takes it for a client that disconnects
    for name, raw in {
        "head": two[:20],
        "fields": two[:-20],
        "body": two[:-2],
        "chunk": chunked()[:-10],
        "chunk-end": chunked()[:-2],
    }.items():
        yield Case(f"half-close/unfinished/{name}", (raw,), half_close=True)
        yield Case(f"unfinished/{name}", (raw,))


ANSWERS = {
    "100": (b"100 Continue", ()), "102": (b"102 Processing", ()), "103": (b"103 Early Hints", (b"link: </a>",)), "199": (b"199 X", ()),
}  # fmt: skip
FINALS = (
    b"200 OK",
    b"204 No Content",
    b"205 Reset Content",
    b"206 Partial Content",
    b"301 Moved",
    b"304 Not Modified",
    b"400 Bad",
    b"404 Not Found",
    b"405 X",
    b"412 X",
    b"418 T",
    b"429 X",
    b"451 X",
    b"500 X",
    b"501 X",
    b"503 X",
    b"599 X",
    b"600 X",
    b"999 X",
)
OK = b"HTTP/1.1 200 OK\r\nx-recorded: {number}\r\n"


def service_answers() -> Iterator[Case]:
    """Yield answers of the service: interim, without a body, with a body where none is allowed, framed in every way."""
    end = b"content-length: 2\r\n\r\nok"
    for status in FINALS:
        code = status[:3].decode()
        for method in (b"GET", b"HEAD", b"POST"):
            ask = post() if method == b"POST" else get(method=method)
            yield Case(
                f"answer/{code}/length/{method.decode()}",
                (ask,),
                answer(status, b"content-length: 2", body=b"" if method == b"HEAD" else b"ok"),
            )
            yield Case(f"answer/{code}/empty/{method.decode()}", (ask,), answer(status, b"content-length: 0"))
        yield Case(
            f"answer/{code}/chunked",
            (get(),),
            answer(status, b"transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        )
        yield Case(f"answer/{code}/to-end", (get(),), answer(status, body=b"ok", close=True))
        yield Case(f"answer/{code}/bare-close", (get(),), answer(status, b"connection: close", close=True))
    for code, (status, lines) in ANSWERS.items():
        interim = CRLF.join([b"HTTP/1.1 " + status, *lines]) + CRLF + CRLF
        yield Case(f"answer/interim/{code}", (post(),), Script(interim + OK + end))
        yield Case(f"answer/interim-twice/{code}", (get(),), Script(interim * 2 + OK + end))
        yield Case(f"answer/interim-alone/{code}", (get(),), Script(interim, close=True))
        yield Case(f"answer/interim-early/{code}", (post(body=b"a" * 100_000),), Script(interim + OK + end, When.HEAD))
    other = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-stolen: yes\r\n\r\nother"
    raw = {
        "body-beyond-length": OK + b"content-length: 2\r\n\r\nokmore",
        "second-answer": OK + end + other,
        "204-and-answer": b"HTTP/1.1 204 No Content\r\nx-recorded: {number}\r\n\r\n" + other,
        "304-and-answer": b"HTTP/1.1 304 Not Modified\r\nx-recorded: {number}\r\n\r\n" + other,
        "204-length-and-answer": b"HTTP/1.1 204 No Content\r\nx-recorded: {number}\r\ncontent-length: 2\r\n\r\n"
        + other,
        "two-lengths": OK + b"content-length: 2\r\ncontent-length: 4\r\n\r\nokok",
        "two-equal-lengths": OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "length-list": OK + b"content-length: 2, 2\r\n\r\nok",
        "length-and-chunked": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "bad-length": OK + b"content-length: x\r\n\r\nok",
        "negative-length": OK + b"content-length: -2\r\n\r\nok",
        "plus-length": OK + b"content-length: +2\r\n\r\nok",
        "huge-length": OK + b"content-length: 18446744073709551618\r\n\r\nok",
        "chunked-trailers": OK
        + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n",
        "chunked-trailer-length": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ncontent-length: 9\r\n\r\n",
        "chunked-extensions": OK + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n",
        "chunked-upper": OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "gzip-chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "chunked-twice": OK + b"transfer-encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "te-two-lines": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "te-unknown": OK + b"transfer-encoding: cow\r\n\r\nok",
        "chunked-bad-size": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        "chunked-lf": OK + b"transfer-encoding: chunked\r\n\r\n2\nok\n0\n\n",
        "chunked-and-answer": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + other,
        "lf": (OK + end).replace(CRLF, b"\n"),
        "fold": OK + b"x-a: b\r\n c\r\n" + end,
        "space-before-colon": OK + b"x-a : b\r\n" + end,
        "nul-in-value": OK + b"x-a: b\x00c\r\n" + end,
        "cr-in-value": OK + b"x-a: b\rset-cookie: c\r\n" + end,
        "no-reason": OK.replace(b" OK", b"") + end,
        "no-reason-space": OK.replace(b"OK", b"") + end,
        "http-1.0": OK.replace(b"HTTP/1.1", b"HTTP/1.0") + end,
        "http-1.0-keep-alive": OK.replace(b"HTTP/1.1", b"HTTP/1.0") + b"connection: keep-alive\r\n" + end,
        "http-2.0": OK.replace(b"HTTP/1.1", b"HTTP/2.0") + end,
        "no-http": b"nothing at all\r\n\r\n",
        "simple": b"ok",
        "status-20": OK.replace(b"200", b"20") + end,
        "status-2000": OK.replace(b"200", b"2000") + end,
        "status-0": OK.replace(b"200", b"000") + end,
        "connection-close": OK + b"connection: close\r\n" + end,
        "connection-names-length": OK + b"connection: content-length\r\n" + end,
        "connection-names-coding": OK
        + b"connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "connection-names-own": OK + b"connection: x-a\r\nx-a: b\r\n" + end,
        "connection-names-type": OK + b"connection: content-type\r\ncontent-type: text/html\r\n" + end,
        "connection-names-cookie": OK + b"connection: set-cookie\r\nset-cookie: a=b\r\n" + end,
        "connection-two-lines": OK + b"connection: keep-alive\r\nconnection: close\r\n" + end,
        "keep-alive": OK + b"keep-alive: timeout=1\r\n" + end,
        "upgrade-offered": OK + b"upgrade: h2c\r\nconnection: upgrade\r\n" + end,
        "trailer-announced": OK + b"trailer: x\r\n" + end,
        "date-and-server": OK + b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: x\r\n" + end,
        "x-request-id": OK + b"x-request-id: other\r\n" + end,
        "set-cookie-twice": OK + b"set-cookie: a=b\r\nset-cookie: c=d\r\n" + end,
        "large-head": OK + b"x-a: " + b"b" * 100_000 + CRLF + end,
        "large-body": OK + b"content-length: 300000\r\n\r\n" + b"a" * 300_000,
        "large-chunked": OK + b"transfer-encoding: chunked\r\n\r\n493e0\r\n" + b"a" * 300_000 + b"\r\n0\r\n\r\n",
        "empty-lines-first": CRLF * 2 + OK + end,
    }
    for name, script in raw.items():
        yield Case(f"answer/raw/{name}", (get(),), Script(script))
        yield Case(f"answer/raw-post/{name}", (post(),), Script(script))
        yield Case(f"answer/raw-closes/{name}", (get(),), Script(script, close=True))
        if name in HEADED:
            yield Case(f"answer/raw-head/{name}", (get(method=b"HEAD"),), Script(script))
    # Every size at which a proxy may stop reading ahead, so that it does not see the service close the connection.
    for size in (60_000, 66_000, 70_000, 100_000, 140_000, 200_000, 270_000, 600_000):
        large = OK + b"content-length: %d\r\n\r\n" % size + b"a" * size
        yield Case(f"answer/size-closes/{size}", (get(),), Script(large, close=True))
    cut = {
        "nothing": b"", "half-head": OK[:20], "head-no-end": OK, "half-body": OK + b"content-length: 9\r\n\r\nok",
        "half-chunk": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nok", "no-last-chunk": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        "half-large": OK + b"content-length: 300000\r\n\r\n" + b"a" * 200_000,
    }  # fmt: skip
    for name, script in cut.items():
        for method in (b"GET", b"POST", b"PUT"):
            ask = get() if method == b"GET" else post(method=method)
            yield Case(f"answer/cut/{name}/{method.decode()}", (ask,), Script(script, close=True))


HEADED = (
    "body-beyond-length",
    "second-answer",
    "204-and-answer",
    "chunked-trailers",
    "length-and-chunked",
    "large-body",
    "connection-close",
)


def splits() -> Iterator[Case]:
    """Yield cases whose bytes are sent in other segments."""
    whole = chunked(b"Connection: x-own", b"X-Own: 1", body=chunks(b"hi", trailers=(b"x: y",))) + get(target=b"/s/b")
    case = Case("split/chunked-and-get", (whole,))
    for at in range(1, len(whole)):
        yield case.split(at)
    dripped = {
        "get": get(), "post": post(), "chunked": chunked(), "two": post() + get(target=b"/s/b"), "h2c": post(b"Connection: Upgrade", b"Upgrade: h2c"),
        "te-and-length": head(b"POST /s/a HTTP/1.1", b"Content-Length: 3", b"Transfer-Encoding: chunked") + chunks(b"hello"),
        "bad-chunk": chunked(body=b"5\nhello\r\n0\r\n\r\n"), "trailer": chunked(body=chunks(b"hello", trailers=(b"Authorization: Bearer other",))),
        "fold": get(b"X: y\r\n z"), "lf": get().replace(CRLF, b"\n"),
    }  # fmt: skip
    for name, raw in dripped.items():
        yield Case(f"split/{name}", (raw,)).dripped()


GROUPS = (
    named_in_connection, transfer_encodings, lengths, chunk_framing, control_bytes, line_ends, request_targets, methods, versions, hosts, upgrades,
    expectations, connections, service_answers, splits,
)  # fmt: skip


def corpus() -> list[Case]:
    """Return all cases, sorted by name."""
    cases: dict[str, Case] = {}
    for group in GROUPS:
        for case in group():
            assert case.name not in cases, f"two cases are called {case.name}"
            cases[case.name] = case
    return list(cases.values())
