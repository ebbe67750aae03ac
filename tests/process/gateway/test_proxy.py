import asyncio
import resource

import pytest
from api_gateway.shares import PLACES
from prometheus_client import REGISTRY

from tests.process.gateway.conftest import Behaviour, Gateway, answering, head

GET = b"GET /s/1 HTTP/1.1\r\nHost: h\r\n\r\n"


async def ask(port: int, request: bytes = GET, timeout_s: float = 10) -> bytes:
    """Return the first answer to raw bytes, up to the end of the connection or of its declared length."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = next(
                (
                    int(line.split(b":")[1])
                    for line in answer.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                ),
                0,
            )
            return answer + await reader.readexactly(size)
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def statuses(port: int, number: int, request: bytes = GET) -> list[int]:
    return [status(await ask(port, request)) for _ in range(number)]


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def truncate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    await writer.drain()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok":
        writer.write(bytes([byte]))
        await asyncio.sleep(0.2)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
    for _ in range(100):
        writer.write(b"x")
        await asyncio.sleep(0.2)


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await reader.read()


@pytest.mark.parametrize("failing", [answering(500), reset, hang, truncate, drip, drip_body, babble])
async def test_no_client_notices_one_failed_instance_of_three(gateway: Gateway, failing: object) -> None:
    port = await gateway(failing, answering(), answering(), timeout_s=1.5)
    assert set(await statuses(port, 60)) == {200}


async def test_a_post_that_an_instance_may_have_seen_is_not_sent_again(gateway: Gateway) -> None:
    port = await gateway(reset, reset)
    assert await statuses(port, 3, b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi") == [502] * 3


async def test_a_service_that_hangs_is_a_504_in_time(gateway: Gateway) -> None:
    port = await gateway(hang, timeout_s=0.5)
    assert await statuses(port, 1) == [504]


async def test_without_an_instance_it_is_503_and_when_to_try_again(gateway: Gateway) -> None:
    answer = await ask(await gateway())
    assert status(answer) == 503
    assert b"retry-after: 1" in answer


async def test_the_services_own_error_is_what_the_client_gets_when_every_instance_has_it(gateway: Gateway) -> None:
    answer = await ask(await gateway(answering(500, b"mine"), answering(500, b"mine")))
    assert status(answer) == 500
    assert answer.endswith(b"mine")


async def test_an_error_that_was_passed_over_is_in_no_answer(gateway: Gateway) -> None:
    def now_and_then() -> Behaviour:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while received := await head(reader):
                code, body = (500, b"never seen") if b"/s/bad" in received else (200, b"ok")
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (code, len(body), body))

        return serve

    port = await gateway(now_and_then(), now_and_then())
    for _ in range(5):
        assert (await ask(port, GET.replace(b"/s/1", b"/s/bad"))).endswith(b"never seen")
        for _ in range(4):
            assert (await ask(port)).endswith(b"\r\n\r\nok")


async def test_a_service_that_only_fails_is_left_alone_after_a_while(gateway: Gateway) -> None:
    port = await gateway(reset)
    assert await statuses(port, 25) == [502] * 20 + [503] * 5


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /s/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /s/%2e%2e/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /s//x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        b"GET /s\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT /s HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_reaches_no_instance(gateway: Gateway, request_: bytes) -> None:
    seen: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    answer = await ask(await gateway(note), request_)
    assert status(answer) == 501 or 400 <= status(answer) < 500
    assert seen == []


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    received = await head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(received), received))


async def test_an_instance_hears_of_the_gateway_only_what_is_true(gateway: Gateway) -> None:
    claims = b"X-Forwarded-For: 1.2.3.4\r\nX-Request-ID: forged\r\nTraceparent: forged\r\nForwarded: for=1.2.3.4\r\n"
    answer = await ask(await gateway(echo), GET[:-2] + claims + b"Authorization: Bearer x\r\n\r\n")
    assert b"x-forwarded-for: 127.0.0.1\r\n" in answer
    assert b"forged" not in answer
    assert b"1.2.3.4" not in answer
    assert b"x-request-timeout-ms: " in answer
    assert b"\r\nconnection:" not in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("scheme", [b"http", b"HTTPS"])
@pytest.mark.parametrize("host", [b"other", b"other:8443", b"[::1]:80"])
async def test_the_host_of_an_absolute_target_takes_the_place_of_the_fields(
    gateway: Gateway, scheme: bytes, host: bytes
) -> None:
    port = await gateway(echo)
    heard = (
        await ask(port, b"GET %b://%b/s?a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % (scheme, host))
    ).lower()
    assert b"host: %b\r\n" % host in heard
    assert b"x-forwarded-host: %b\r\n" % host in heard
    assert b"host: h\r\n" not in heard


@pytest.mark.parametrize("target", [b"http://other", b"http://other?a", b"http://other:80"])
async def test_an_absolute_target_without_a_path_is_that_of_the_root(gateway: Gateway, target: bytes) -> None:
    port = await gateway(echo)
    root = await ask(port, b"GET / HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
    assert (
        status(await ask(port, b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % target))
        == status(root)
        != 400
    )


@pytest.mark.parametrize(
    "target",
    [
        b"http://",
        b"http://?a",
        b"ftp://h",
        b"ftp://h/s",
        b"http://u:p@h/s",
        b"http://u@h/s",
        b"http://@h/s",
        b"h/s",
        b"http:///s",
    ],
)
async def test_a_target_of_another_form_is_refused(gateway: Gateway, target: bytes) -> None:
    port = await gateway(echo)
    assert status(await ask(port, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)) == 400


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t "])
async def test_blanks_after_a_value_are_no_part_of_it(gateway: Gateway, blank: bytes) -> None:
    port = await gateway(echo)
    fields = b"".join(b"%b: v%b\r\n" % (name, blank) for name in (b"Host", b"X-Mine", b"If-None-Match"))
    heard = (await ask(port, b"GET /s HTTP/1.1\r\n%bConnection: close%b\r\n\r\n" % (fields, blank))).lower()
    assert heard.count(b": v\r\n") == 4  # and X-Forwarded-Host
    assert blank + b"\r\n" not in heard


async def test_a_body_of_unknown_length_arrives_whole_in_both_directions(gateway: Gateway) -> None:
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"transfer-encoding: chunked" in await head(reader)
        total = 0
        while size := int(await reader.readline(), 16):
            total += len(await reader.readexactly(size))
            await reader.readline()
        writer.write(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n%05d\r\n0\r\nX-Trailer: 1\r\n\r\n" % total
        )
        await writer.drain()

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(sum_up))
    writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(30):
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await asyncio.sleep(0.005)
    writer.write(b"0\r\n\r\n")
    answer = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert b"30000" in answer


async def test_an_interim_answer_is_not_the_answer(gateway: Gateway) -> None:
    async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.read()

    answer = await ask(await gateway(hints))
    assert status(answer) == 200
    assert b"link" not in answer


async def test_head_has_the_length_and_no_body(gateway: Gateway) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await head(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(serve))
    for _ in range(3):
        writer.write(GET.replace(b"GET", b"HEAD"))
        assert b"content-length: 2" in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_client_that_leaves_ends_the_request_at_the_instance(gateway: Gateway) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await head(reader)
        await reader.read()
        ended.set()

    _, writer = await asyncio.open_connection("127.0.0.1", await gateway(wait))
    writer.write(GET)
    await asyncio.sleep(0.3)
    writer.close()
    async with asyncio.timeout(3):
        await ended.wait()


async def test_events_arrive_as_they_are_sent(gateway: Gateway) -> None:
    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await reader.read()

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(events))
    writer.write(GET)
    async with asyncio.timeout(3):
        await reader.readuntil(b"data: 1\n\n")
    writer.close()


async def test_a_large_answer_waits_for_a_slow_client(gateway: Gateway) -> None:
    size = 100 * 1024 * 1024

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(large))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer.write(GET)
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)
    got = 0
    while got < size:
        got += len(await reader.read(65536))
    writer.close()
    assert got == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


async def test_a_large_body_waits_for_a_slow_instance(gateway: Gateway) -> None:
    size = 100 * 1024 * 1024

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await asyncio.sleep(0.5)
        got = 0
        while got < size:
            got += len(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(slow))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(size // 65536):
        writer.write(b"x" * 65536)
        await writer.drain()
    assert status(await reader.readuntil(b"\r\n\r\n")) == 200
    writer.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


async def test_a_refusal_in_the_middle_of_a_body_reaches_the_client(gateway: Gateway) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        await reader.read(65536)

    reader, writer = await asyncio.open_connection("127.0.0.1", await gateway(refuse))
    writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    async with asyncio.timeout(3):
        assert status(await reader.readuntil(b"\r\n\r\n")) == 413
    writer.close()


async def test_the_rest_of_a_refused_body_is_no_request(gateway: Gateway) -> None:
    async def refuse_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await head(reader):
            if b"content-length: 1000000" in received:
                writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
                await reader.readexactly(1000000)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    port = await gateway(refuse_large, timeout_s=2)
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        assert status(await reader.readuntil(b"\r\n\r\n")) == 413
        assert await statuses(port, 2) == [200, 200]
        writer.close()


async def test_who_has_waited_long_does_not_end_the_request_of_the_next_one(gateway: Gateway) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await head(reader):
            await asyncio.sleep(0.3 if b"/s/slow" in received else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    port = await gateway(slow)

    async def again_and_again(request: bytes, number: int) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found: list[int] = []
        for _ in range(number):
            writer.write(request)
            found.append(status(await reader.readuntil(b"ok")))
        writer.close()
        return found

    slow_ones = [again_and_again(GET.replace(b"/s/1", b"/s/slow"), 4) for _ in range(30)]
    quick_ones = [again_and_again(GET, 400) for _ in range(4)]
    assert {code for codes in await asyncio.gather(*slow_ones, *quick_ones) for code in codes} == {200}


async def test_a_route_that_wants_a_token_has_the_last_word(gateway: Gateway) -> None:
    answer = await ask(await gateway(answering(), auth="required"))  # the verifier itself requires no token
    assert status(answer) == 401
    assert b"Missing token" in answer
    assert b"www-authenticate: Bearer" in answer


async def test_requests_in_flight_are_shown_with_their_limit(gateway: Gateway) -> None:
    seen: list[float | None] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        seen.append(REGISTRY.get_sample_value("gateway_in_flight", {"service": "s"}))
        writer.write(b"HTTP/1.1 204 X\r\n\r\n")

    await ask(await gateway(count))
    assert seen == [1]
    assert REGISTRY.get_sample_value("gateway_in_flight", {"service": "s"}) == 0
    assert REGISTRY.get_sample_value("gateway_in_flight_limit") == PLACES
