"""Invariants for any behaviour of an instance: the exchange ends, the client gets a whole answer or none, and the next request is unaffected."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.process.gateway.misbehaving import SOUND, Case, End, any_case, play

OK = b"HTTP/1.1 200 OK\r\n"
BAD = frozenset({502})
ENDS: tuple[End, ...] = ("stall", "close", "reset")


def both(case: Case) -> Iterator[Case]:
    """Yield a case on a new connection, and on one that was used before."""
    yield case
    yield replace(case, warm=True)


def cut(end: End) -> Iterator[Case]:
    """Yield every correct answer, cut at each of its bytes."""
    for name, answer in SOUND.items():
        for at in range(len(answer)):
            statuses = {504} if end == "stall" else {502}
            if name == "chunks":
                statuses.add(200)
            yield Case(f"{name} up to byte {at}", answer[:at], end, frozenset(statuses), warm=at % 2 == 0)
    for at in range(0, len(SOUND["length"]), 9):
        case = Case(f"length up to byte {at}", SOUND["length"][:at], end, frozenset({504} if end == "stall" else {502}))
        yield from both(replace(case, method="POST"))


def broken(name: str, answer: bytes, *statuses: int, end: End = "close") -> Iterator[Case]:
    """Yield cases with an invalid answer."""
    case = Case(name, answer, end, frozenset(statuses) or BAD)
    yield from both(case)
    yield from both(replace(case, method="POST"))
    yield from both(replace(case, parts=7))


def surplus(name: str, answer: bytes, status: int, method: str = "GET") -> Iterator[Case]:
    """Yield cases with an answer followed by more bytes."""
    case = Case(name, answer, "stall", frozenset({status}), method)
    yield from both(case)
    # Bytes that arrive after the answer was passed on fail no request.
    yield from both(replace(case, parts=5, lines=(0, 1)))


def where_no_body_may_be() -> Iterator[Case]:
    for status in (204, 304):
        line = b"HTTP/1.1 %d X\r\n" % status
        for more in (b"hello", b"HTTP/1.1 200 OK\r\nInjected: 1\r\nContent-Length: 0\r\n\r\n", b"\0\0\0"):
            yield from surplus(f"{status} and a body", line + b"\r\n" + more, status)
            length = b"Content-Length: %d\r\n" % len(more)
            yield from surplus(f"{status}, a length and a body", line + length + b"\r\n" + more, status)
        chunked = line + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        yield from surplus(f"{status} and chunks", chunked, status)
    yield from surplus("204 that announces a body", b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", 204)
    yield from surplus("HEAD and a body", OK + b"Content-Length: 5\r\n\r\nhello", 200, "HEAD")
    yield from surplus(
        "HEAD and chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "HEAD"
    )
    for status in (100, 102, 103, 199):
        interim = b"HTTP/1.1 %d X\r\n\r\nhello" % status + SOUND["length"]
        yield from broken(f"{status} and a body", interim)
    yield from broken(
        "101 that nobody asked for", b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    )
    yield from broken("101 without a protocol", b"HTTP/1.1 101 X\r\n\r\n" + SOUND["length"])


def of_another_length() -> Iterator[Case]:
    for more in (b"x", b"\r\n\r\n", SOUND["length"], SOUND["length"][:20], b"\x16\x03\x01"):
        # Empty lines before a start line are skipped (RFC 9112, section 2.2).
        for name in ("length", "chunks", "interim"):
            if more.strip():
                status = 404 if name == "interim" else 200
                yield from surplus(f"{name} and {more[:20]!r}", SOUND[name] + more, status)
    for end in ENDS:
        statuses = (504,) if end == "stall" else (502,)
        yield from broken("too few bytes", OK + b"Content-Length: 10\r\n\r\nhello", *statuses, end=end)
        large = OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 100_000
        yield from broken("too few of many bytes", large, 200, *statuses, end=end)
        yield from broken(
            "too few bytes of a chunk", OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nx", 200, *statuses, end=end
        )


def with_a_status() -> Iterator[Case]:
    for status in range(1000):
        answer = b"HTTP/1.1 %03d X\r\nContent-Length: 5\r\n\r\nhello" % status
        if 200 <= status <= 599 and status not in (204, 304):
            lines = (1,) if status >= 500 and status != 501 else (0,)
            case = Case(f"status {status}", answer, "stall", frozenset({status}), sound=True, lines=lines)
            yield replace(case, warm=status % 2 == 0)
        elif status not in (204, 304):
            yield Case(f"status {status}", answer, "close", BAD, warm=status % 2 == 0)
    for text in (
        b"",
        b"2",
        b"20",
        b"2000",
        b"abc",
        b"-20",
        b"+200",
        b"2 0",
        b"0x1",
        b"\xff\xff\xff",
        b"1e2",
        b"200200",
    ):
        yield from broken(f"status {text!r}", b"HTTP/1.1 " + text + b"\r\nContent-Length: 0\r\n\r\n")


def with_chunks() -> Iterator[Case]:
    begun = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    sizes = (
        b"zz", b"-5", b"+5", b"0x5", b"5 5", b"", b" ", b"F" * 16, b"F" * 17, b"1" + b"0" * 40, b"5\0", b"\xff", b"5\n5", b"7fffffffffffffff",
    )  # fmt: skip
    for size in sizes:
        yield from broken(f"chunk size {size!r}", begun + size + b"\r\nhello\r\n0\r\n\r\n", 200, 502)
        yield from broken(f"second chunk size {size!r}", begun + b"1\r\nx\r\n" + size + b"\r\nhello", 200, 502)
    yield from broken("no end of a chunk", begun + b"5\r\nhelloworld\r\n0\r\n\r\n", 200, 502)
    yield from broken("no last chunk", begun + b"5\r\nhello\r\n", 200, 502)
    yield from broken("no end of trailers", begun + b"0\r\nTrailer: x\r\n", 200, 502)
    yield from broken("rubbish as a trailer", begun + b"0\r\nrub\0bish\r\n\r\n", 200, 502)


def with_framing() -> Iterator[Case]:
    for length in (b"+5", b"-5", b"5,5", b"5, 6", b"0x5", b"", b"five", b"9" * 30, b"5 5", b"5.0", b"\xb2"):
        yield from broken(f"length {length!r}", OK + b"Content-Length: " + length + b"\r\n\r\nhello")
    yield from broken("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    for coding in (
        b"gzip",
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"xchunked",
        b"chunked, chunked",
        b"chunked\x0b",
        b"",
    ):
        answer = OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        yield from broken(f"coding {coding!r}", answer)
    both_said = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
    for first, second in (both_said, both_said[::-1]):
        yield from broken("length and coding", OK + first + second + b"\r\n5\r\nhello\r\n0\r\n\r\n")
    yield from broken("two codings", OK + both_said[1] * 2 + b"\r\n5\r\nhello\r\n0\r\n\r\n")
    yield from broken("a space before a colon", OK + b"Content-Length : 5\r\n\r\nhello")


def that_is_not_http() -> Iterator[Case]:
    rest = b"\r\nContent-Length: 5\r\n\r\nhello"
    starts = (
        b"HTTP/2 200", b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"HTTP/3.0 200 OK", b"http/1.1 200 OK", b"HTTP/1.1200 OK",
        b" HTTP/1.1 200 OK", b"HTTPS/1.1 200 OK", b"ICY 200 OK", b"GET / HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1 ", b"\xef\xbb\xbfHTTP/1.1 200 OK",
        b"HTTP/11 200 OK", b"HTTP/-1.1 200 OK", b"\0HTTP/1.1 200 OK",
    )  # fmt: skip
    for start in starts:
        yield from broken(f"start {start!r}", start + rest)
    for name, answer in {
        "no status line": b"Content-Length: 5\r\n\r\nhello",
        "HTTP/0.9": b"<html>hello</html>\n",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/2 settings": b"\0\0\0\4\0\0\0\0\0",
        "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "Redis": b"-ERR unknown command 'GET'\r\n",
        "SMTP": b"220 mail.example.com ESMTP\r\n",
        "nothing but lines": b"\r\n\r\n\r\n\r\n",
        "nulls": b"\0" * 1000,
    }.items():
        yield from broken(name, answer)


def with_headers() -> Iterator[Case]:
    rest = b"\r\nContent-Length: 5\r\n\r\nhello"
    for header in (
        b"X: a\rInjected: 1", b"X: a\0b", b"X: a\x01b", b"X: a\x7fb", b": x", b"X\0: a", b"X Y: a", b"X\rY: a", b"(X): a", b"X: a\r\r", b"no colon",
        b"X\xff: a",
    ):  # fmt: skip
        yield from broken(f"header {header!r}", OK + header + rest)
    for header in (
        b"X: a\r\n b",
        b"X: a\r\n\tInjected: 1",
        b" Injected: 1",
        b"X: \xff",
        b"Connection: \xff,\0",
        b"X:",
    ):
        case = Case(f"header {header!r}", OK + header + rest, "close", frozenset({200, 502}), sound=None, lines=(0, 1))
        yield from both(case)


def without_an_end() -> Iterator[Case]:
    begun = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    line, piece = b"X: %b\r\n" % (b"x" * 500), b"x" * 4096
    for name, answer, then, statuses in (
        ("headers", OK, line, BAD),
        ("small headers", OK, b"X: y\r\n" * 1000, BAD),
        ("a header", OK + b"X: ", piece, BAD),
        ("a header's name", OK, piece, BAD),
        ("a status line", b"HTTP/1.1 200 ", piece, BAD),
        ("interim answers", b"", b"HTTP/1.1 103 X\r\nLink: x\r\n\r\n" * 100, BAD),
        ("empty lines", b"", b"\r\n" * 2048, BAD),
        ("trailers", begun + b"0\r\n", line, frozenset({200, 502})),
        ("a trailer", begun + b"5\r\nhello\r\n0\r\nX: ", piece, frozenset({200, 502})),
        ("a chunk's extension", begun + b"5;x=", piece, frozenset({200, 502})),
        ("zeros of a chunk's size", begun, b"0" * 4096, frozenset({200, 502})),
    ):
        yield from both(Case(f"without an end: {name}", answer, "stall", statuses, then=then))


FAMILIES = (
    where_no_body_may_be,
    of_another_length,
    with_a_status,
    with_chunks,
    with_framing,
    that_is_not_http,
    with_headers,
    without_an_end,
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_an_answer_that_is_wrong_harms_no_one_else(family: Callable[[], Iterator[Case]]) -> None:
    assert await play(family()) == []


@pytest.mark.parametrize("end", ENDS)
async def test_an_answer_that_ends_at_any_byte_harms_no_one_else(end: End) -> None:
    assert await play(cut(end)) == []


async def test_an_answer_with_any_bytes_changed_harms_no_one_else() -> None:
    cases: list[Case] = []
    pieces = st.sampled_from(
        [b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b":", b"0", b"9", b"\xff"]
    ) | st.binary(max_size=4)
    changes = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 8), pieces), min_size=1, max_size=4)

    @settings(
        max_examples=400,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        st.sampled_from(sorted(SOUND)), changes, st.sampled_from(ENDS), st.sampled_from(["GET", "HEAD", "POST"]), st.booleans()
    )  # fmt: skip
    def collect(name: str, edits: list[tuple[int, int, bytes]], end: End, method: str, warm: bool) -> None:  # noqa: FBT001
        answer = SOUND[name]
        for at, size, piece in edits:
            answer = answer[:at] + piece + answer[at + size :]
        cases.append(any_case(answer, end, method, warm))

    collect()
    assert len(cases) >= 200
    assert await play(cases) == []


def test_the_catalogue_is_no_smaller_than_it_was() -> None:
    assert sum(len(list(family())) for family in FAMILIES) > 1500
    assert sum(len(list(cut(end))) for end in ENDS) > 800
