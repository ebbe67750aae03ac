import json
import logging
from typing import Any

import pytest
from prometheus_client import REGISTRY
from servicekit.logs import JsonFormatter
from servicekit.observation import Message, Observed, Receive, Scope, Send


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
    return dict(sent[0]["headers"])


async def test_an_id_of_the_caller_is_taken_over_only_where_it_is_trusted() -> None:
    given = [(b"x-request-id", b"abc")]
    assert (await ask(Observed(answer, "s", trusts=lambda _: True), given))[b"x-request-id"] == b"abc"
    assert (await ask(Observed(answer, "s", trusts=lambda _: False), given))[b"x-request-id"] not in (b"abc", b"forged")


async def test_an_insane_id_is_replaced() -> None:
    given = [(b"x-request-id", b"x" * 200)]
    assert len((await ask(Observed(answer, "s", trusts=lambda _: True), given))[b"x-request-id"]) == 36


async def test_the_endpoint_label_is_the_template_and_the_method_a_known_one() -> None:
    await ask(Observed(answer, "s", trusts=lambda _: False), method="BREW")
    labels = {"method": "OTHER", "endpoint": "/things/{id}", "status_code": "204"}
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 1


async def test_an_error_is_counted_and_raised() -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ask(Observed(fail, "failing", trusts=lambda _: False))
    assert (
        REGISTRY.get_sample_value("service_errors_total", {"service": "failing", "error_type": "ZeroDivisionError"})
        == 1
    )


def test_a_log_line_is_json_with_an_rfc_3339_time() -> None:
    record = logging.makeLogRecord({"msg": "Request started", "levelname": "INFO", "method": "GET"})
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "Request started"
    assert line["method"] == "GET"
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")
