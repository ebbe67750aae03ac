"""The harness detects its targets: its readings of raw bytes, and a proxy that behaves as none may."""

import asyncio
from contextlib import suppress

import pytest

from tests.process.differential.answers import read_answers
from tests.process.differential.case import HOST, Case, Script, chunked, chunks, get, head, post
from tests.process.differential.corpus import corpus
from tests.process.differential.exchange import Observation, observe
from tests.process.differential.invariants import violations
from tests.process.differential.reading import End, read
from tests.process.differential.recorder import Recorder
from tests.process.differential.targets import GATEWAY, Target

FEWEST_CASES = 600
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_the_corpus_is_large_and_each_case_has_its_own_name() -> None:
    cases = corpus()
    assert len({case.name for case in cases}) == len(cases) >= FEWEST_CASES


@pytest.mark.parametrize(
    ("raw", "targets", "end"),
    [
        (get() + post(target=b"/s/b"), [b"/s/a", b"/s/b"], End.WHOLE),
        (chunked(body=chunks(b"a", b"b", trailers=(b"x: y",))) + get(target=b"/s/b"), [b"/s/a", b"/s/b"], End.WHOLE),
        (get(b"Connection: close") + get(target=b"/s/b"), [b"/s/a"], End.CLOSED),
        (head(b"GET /s/a HTTP/1.0") + get(), [b"/s/a"], End.CLOSED),
        (post()[:-1], [], End.UNFINISHED),
        (chunked()[:-1], [], End.UNFINISHED),
        (get(b"X : y"), [], End.ERROR),
        (post(b"Content-Length: 6"), [], End.ERROR),
        (chunked(body=b"5\nhello\r\n0\r\n\r\n"), [], End.ERROR),
        (chunked(b"Transfer-Encoding: gzip"), [], End.ERROR),
    ],
)
def test_requests_are_read_as_rfc_9112_has_them(raw: bytes, targets: list[bytes], end: End) -> None:
    reading = read(raw)
    assert ([message.target for message in reading.whole], reading.end) == (targets, end)


def test_a_body_that_looks_like_a_request_is_a_body() -> None:
    (message,) = read(post(body=get(target=b"/s/b"))).messages
    assert (message.target, message.body) == (b"/s/a", get(target=b"/s/b"))


@pytest.mark.parametrize(
    ("raw", "methods", "whole", "rest"),
    [
        (OK + OK, [b"GET", b"GET"], 2, b""),
        (OK + b"more", [b"GET"], 1, b"more"),
        (OK[:-2] + OK, [b"HEAD", b"GET"], 2, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, [b"POST"], 1, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + OK, [b"GET", b"GET"], 2, b""),
        (OK[:-1], [b"GET"], 0, OK[:-1]),
    ],
)
def test_answers_are_read_strictly(raw: bytes, methods: list[bytes], whole: int, rest: bytes) -> None:
    answers = read_answers(raw, methods, ended=False)
    assert (len(answers.whole), answers.rest) == (whole, rest)


async def seen_by_careless_proxy(case: Case) -> Observation:
    """Send a case through a proxy that uses one connection for all clients, and drops a Content-Length that Connection names."""
    recorder = Recorder()
    back, forth = await asyncio.open_connection("127.0.0.1", await recorder.start())
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await reader.read(2**16)
        if b"\r\nConnection: content-length\r\n" in raw:
            raw = raw.replace(b"\r\nContent-Length:", b"\r\nX-Length:")
        async with turn:
            forth.write(raw)
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    writer.write(await back.read(2**16))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            return await observe(Target(GATEWAY, server.sockets[0].getsockname()[1], recorder), case)
        finally:
            forth.close()
            await forth.wait_closed()
            await recorder.stop()


async def test_a_smuggled_request_breaks_the_invariants() -> None:
    smuggled = b"DELETE /s/smuggled HTTP/1.1\r\nHost: " + HOST + b"\r\nX: "
    seen = await seen_by_careless_proxy(Case("smuggles", (post(b"Connection: content-length", body=smuggled),)))
    broken = {wrong.partition(":")[0] for wrong in violations(seen)}
    assert {"others_are_untouched", "one_in_at_most_one_out"} <= broken


async def test_an_answer_with_a_tail_breaks_the_invariants() -> None:
    seen = await seen_by_careless_proxy(Case("tail", (get(),), Script(OK + b"tail")))
    assert "answers_are_whole" in {wrong.partition(":")[0] for wrong in violations(seen)}
