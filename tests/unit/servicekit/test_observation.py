import json
import logging
import time
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from servicekit import logs, problems, routing
from servicekit.asgi import Message, Receive, Scope, Send
from servicekit.bodies import Bounded, Head
from servicekit.logs import JsonFormatter, line, members
from servicekit.observation import Observed, identify


async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
    scope["route_template"] = "/things/{id}"
    await send({"type": "http.response.start", "status": 204, "headers": [(b"x-request-id", b"forged")]})
    await send({"type": "http.response.body", "body": b""})


async def ask(
    app: Observed, headers: list[tuple[bytes, bytes]] | None = None, method: str = "GET"
) -> dict[bytes, bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": method,
        "path": "/things/1",
        "headers": headers or [],
        "client": ("192.0.2.1", 1),
    }
    await app(scope, receive, send)
    return dict(sent[0]["headers"]) if sent else {}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the log lines about requests."""
    logged: list[dict[str, Any]] = []

    def event(_: float, message: str, fields: bytes) -> None:
        logged.append({"message": message} | json.loads(b"{" + fields + b"}"))

    monkeypatch.setattr(logs, "event", event)
    return logged


@pytest.mark.parametrize("given", [b"abc", b"019f3a1c-7c1e-7000-8000-0123456789ab", b"A.b_c-9", b"x" * 64])
async def test_a_service_takes_over_the_gateways_id_and_the_gateway_notes_its_clients(
    lines: list[dict[str, Any]], given: bytes
) -> None:
    sent = [(b"x-request-id", given)]
    assert (await ask(Observed(answer, "s", behind_gateway=True), sent))[b"x-request-id"] == given
    own = (await ask(Observed(answer, "s"), sent))[b"x-request-id"]
    assert len(own) == 36
    assert own != given
    in_service, at_gateway = lines[:2], lines[2:]
    assert [(line["request_id"], line.get("client_request_id")) for line in in_service] == [(given.decode(), None)] * 2
    assert [line["request_id"] for line in at_gateway] == [own.decode()] * 2
    assert [line["client_request_id"] for line in at_gateway] == [given.decode()] * 2


@pytest.mark.parametrize("given", [b"x" * 65, b"", b"a b", b'a"', b"a\n", b"a\r\nb", b"caf\xe9", b"a/b", b"a\x00"])
async def test_an_id_that_is_not_well_formed_is_kept_nowhere(lines: list[dict[str, Any]], given: bytes) -> None:
    for behind_gateway in (True, False):
        own = (await ask(Observed(answer, "s", behind_gateway=behind_gateway), [(b"x-request-id", given)]))[
            b"x-request-id"
        ]
        assert len(own) == 36
        assert {line["request_id"] for line in lines} == {own.decode()}
        assert not any("client_request_id" in line for line in lines)
        lines.clear()


@pytest.mark.parametrize(
    ("said", "behind_gateway", "address"),
    [
        (b"198.51.100.7", True, "198.51.100.7"),
        (b"198.51.100.7, 10.0.0.2, 10.0.0.1", True, "198.51.100.7"),
        (b"198.51.100.7", False, "192.0.2.1"),
        (None, True, "192.0.2.1"),
        (b"9" * 10_000, True, "9" * 64),
    ],
)
async def test_the_lines_name_the_client(
    lines: list[dict[str, Any]], said: bytes | None, behind_gateway: Any, address: str
) -> None:
    headers = [] if said is None else [(b"x-forwarded-for", said)]
    await ask(Observed(answer, "s", behind_gateway=behind_gateway), headers)
    assert lines[0]["remote"] == address


@pytest.mark.parametrize(
    ("subject", "logged"),
    [("billing", "billing"), (7, "7"), ("s" * 5000, "s" * 128), ("a\ud800b", "a?b"), ('"\n', '"\n'), (None, None)],
)
async def test_the_last_line_names_whose_token_it_was(
    lines: list[dict[str, Any]], subject: Any, logged: str | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        identify(scope, {"sub": subject})
        await answer(scope, receive, send)

    await ask(Observed(app, "s"))
    assert "subject" not in lines[0]
    assert lines[1].get("subject") == logged


async def test_a_client_that_leaves_before_its_answer_is_no_error_of_the_service() -> None:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        scope["route_template"] = "/left"

    assert await ask(Observed(app, "leaving")) == {}
    labels = {"method": "GET", "endpoint": "/left", "status_code": "499"}
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 1
    assert not [m for m in REGISTRY.collect() for s in m.samples if s.labels.get("service") == "leaving"]


async def test_the_endpoint_label_is_the_template_and_the_method_a_known_one() -> None:
    await ask(Observed(answer, "s"), method="BREW")
    labels = {"method": "OTHER", "endpoint": "/things/{id}", "status_code": "204"}
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 1


async def test_an_error_is_counted_answered_and_logged_with_the_requests_id(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        logging.getLogger("s").warning("on the way")
        raise ZeroDivisionError

    caplog.handler.setFormatter(JsonFormatter())
    headers = await ask(Observed(fail, "failing"))
    assert headers[b"content-type"] == b"application/problem+json"
    warning, error = map(json.loads, caplog.text.splitlines())
    assert error["message"] == "Unexpected error"
    assert "ZeroDivisionError" in error["exception"]
    assert warning["request_id"] == error["request_id"] == headers[b"x-request-id"].decode()
    assert warning["url"] == "/things/1"
    assert (
        REGISTRY.get_sample_value("service_errors_total", {"service": "failing", "error_type": "ZeroDivisionError"})
        == 1
    )


async def test_an_error_of_a_service_is_one_line_with_its_request_id(caplog: pytest.LogCaptureFixture) -> None:
    app = routing.app("s", lambda _: nullcontext())
    problems.handle(app)

    async def fail() -> None:
        raise ZeroDivisionError

    app.add_api_route("/things", fail)
    observed: Any = Observed(Head(Bounded(app, 10)), "s", behind_gateway=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(observed), base_url="http://s") as client:
        for method in ("GET", "HEAD"):
            caplog.clear()
            answered = await client.request(method, "/things", headers={"X-Request-ID": "abc"})
            assert (answered.status_code, answered.headers["x-request-id"]) == (500, "abc")
            assert answered.headers["content-type"] == "application/problem+json"
            (record,) = caplog.records
            assert vars(record)["request_id"] == "abc"
            assert record.exc_info is not None


@given(st.text())
def test_a_log_line_has_nothing_that_a_terminal_obeys_or_a_reader_takes_for_its_end(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    for written in (line(0, "info", "request", text, {"url": text}), b"{" + members({"url": text}) + b"}"):
        assert written.decode().rstrip("\n").isprintable()
        assert json.loads(written)["url"] == text


def test_a_log_line_is_json_with_an_rfc_3339_time() -> None:
    record = logging.makeLogRecord({"msg": "Request started", "levelname": "INFO", "method": "GET"})
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "Request started"
    assert line["method"] == "GET"
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize("slow", ["body", "answer", "the service"])
async def test_what_a_client_takes_is_not_the_services_time(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    came = [b"a", b"b"]

    async def receive() -> Message:
        nonlocal now
        if not came:  # the watch for a client that disconnects
            now += 1000.0
            return {"type": "http.disconnect"}
        now += 20.0 if slow == "body" else 0.0
        return {"type": "http.request", "body": came.pop(0), "more_body": bool(came)}

    async def send(_message: Message) -> None:
        nonlocal now
        now += 20.0 if slow == "answer" else 0.0

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal now
        scope["route_template"] = f"/slow/{slow}"
        while (await receive()).get("more_body"):
            pass
        now += 20.0 if slow == "the service" else 0.25
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body", "body": b""})

    await Observed(serve, "test")({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
    labels = {"method": "POST", "endpoint": f"/slow/{slow}", "status_code": "204"}
    taken = REGISTRY.get_sample_value("http_request_duration_seconds_sum", labels)
    assert taken == pytest.approx(20.0 if slow == "the service" else 0.25)
