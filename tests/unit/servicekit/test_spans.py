import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from servicekit import metrics, spans
from servicekit.asgi import Message, Receive, Scope, Send
from servicekit.observation import Observed
from servicekit.problems import Kind, Problem
from servicekit.settings import Tracing
from servicekit.spans import Spans
from servicekit.tracing import current, step
from servicekit.tracing import spans as spans_of

from tests.support.collector import Collector, attributes, collecting
from tests.unit.servicekit.test_observation import answer, ask

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def observed(spans: Spans, app: object = answer) -> Observed:
    return Observed(app, "s", behind_gateway=True, spans=spans)  # pyright: ignore[reportArgumentType]


async def test_the_exemplar_of_a_duration_names_the_trace_that_was_recorded(collector: Collector) -> None:
    recorded = Spans("s", collector.endpoint, ratio=1)
    await ask(observed(recorded), method="PATCH")
    recorded.close()
    (span,) = collector.of("s")
    lines = bytes(metrics.expose(OPENMETRICS).body).decode().splitlines()
    of_patch = [line for line in lines if line.startswith("http_request_duration_seconds_bucket") and "PATCH" in line]
    assert [line.split(" # ")[1].split(" ")[0] for line in of_patch if " # " in line] == [
        f'{{trace_id="{span.trace_id.hex()}"}}'
    ]


async def test_a_request_that_is_not_recorded_leaves_no_exemplar(collector: Collector) -> None:
    recorded = Spans("s", collector.endpoint, ratio=0)
    await ask(observed(recorded), method="OPTIONS")
    recorded.close()
    lines = bytes(metrics.expose(OPENMETRICS).body).decode().splitlines()
    of_options = [line for line in lines if "duration" in line and "OPTIONS" in line]
    assert of_options
    assert not [line for line in of_options if " # " in line]


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", b""),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", b""),
        (f"{OPENMETRICS},text/plain;q=0.5", "application/openmetrics-text; version=1.0.0; charset=utf-8", b"# EOF\n"),
    ],
)
async def test_metrics_are_openmetrics_only_where_they_are_asked_for_so(
    accept: str, content_type: str, end: bytes
) -> None:
    response = metrics.expose(accept)
    assert response.headers["content-type"].startswith(content_type)
    assert (b"# EOF" in response.body) is bool(end)
    assert bytes(response.body).endswith(end)


async def test_a_step_of_a_request_is_a_span_beneath_it_and_its_exception_an_error(collector: Collector) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with step("MGET", {"db.system.name": "redis"}):
            pass
        with pytest.raises(TimeoutError), step("postgresql", {}):
            raise TimeoutError
        with pytest.raises(Problem), step("postgresql", {}):
            raise Problem(Kind(404, "none", "None"), "an answer of ours")
        await answer(scope, receive, send)

    recorded = Spans("s", collector.endpoint, ratio=1)
    await ask(observed(recorded, app))
    recorded.close()
    request, *steps = collector.of("s")
    assert {span.parent_span_id for span in steps} == {request.span_id}
    assert [(span.name, attributes(span)) for span in steps] == [
        ("MGET", {"db.system.name": "redis"}),
        ("postgresql", {"error.type": "TimeoutError"}),
        ("postgresql", {}),
    ]


async def test_a_request_that_is_not_recorded_has_no_steps(collector: Collector) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert current.get() is None
        with step("MGET", {}):
            await answer(scope, receive, send)

    unrecorded = Spans("s", collector.endpoint, ratio=0)
    await ask(observed(unrecorded, app))
    unrecorded.close()
    assert not collector.spans


async def test_a_failing_request_is_an_error(collector: Collector) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    recorded = Spans("s", collector.endpoint, ratio=1)
    await ask(observed(recorded, app))
    recorded.close()
    (span,) = collector.of("s")
    assert attributes(span)["error.type"] == "500"


async def test_the_last_spans_are_exported_before_the_app_has_ended(collector: Collector) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    exported: list[int] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_message: Message) -> None:
        exported.append(len(collector.spans))

    recorded = Spans("s", collector.endpoint, ratio=1)
    await ask(observed(recorded))
    await observed(recorded, app)({"type": "lifespan"}, receive, send)
    assert exported == [0, 1]


async def test_a_collector_that_is_away_costs_one_line_and_no_request(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "EXPORT_S", 1.5)  # enough for one more attempt
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    recorded = Spans("s", endpoint, ratio=1)
    for _ in range(2):
        assert (await ask(observed(recorded)))[b"x-request-id"]
        recorded.provider.force_flush()
    recorded.close()
    lines = [record for record in caplog.records if record.name != "request"]
    assert [record.getMessage() for record in lines] == [
        "Spans are lost until the collector takes them; requests are served all the same"
    ]
    assert vars(lines[0])["endpoint"] == endpoint
    # The reason is the last failure: a slow machine may have no time for the second attempt.
    assert any(cause in vars(lines[0])["reason"] for cause in ("refused", "timeout"))


async def test_a_full_queue_drops_spans_and_delays_nothing(
    collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "QUEUE", 512)
    recorded = Spans("s", collector.endpoint, ratio=1)
    with recorded.provider._active_span_processor._span_processors[0]._batch_processor._export_lock:  # pyright: ignore # noqa: PGH003 - there is no other way to hold it
        for _ in range(600):
            await ask(observed(recorded))
    recorded.close()
    assert 500 <= len(collector.spans) <= 512
    assert len([record for record in caplog.records if record.name == "servicekit.spans"]) == 1


async def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CLOSE_S", 0.2)
    monkeypatch.setattr(spans, "EXPORT_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        recorded = Spans("s", f"http://127.0.0.1:{silent.getsockname()[1]}", ratio=1)
        await ask(observed(recorded))
        began = time.monotonic()
        recorded.close()
        assert 0.1 < time.monotonic() - began < 2


def test_without_an_endpoint_there_are_no_spans_no_thread_and_no_exporter() -> None:
    assert spans_of("s", Tracing()) is None
    program = """
import sys, threading
import api_gateway.main, user_service.main
from servicekit.settings import Tracing
from servicekit.tracing import spans
assert spans("s", Tracing()) is None
assert threading.active_count() == 1, threading.enumerate()
assert not {"servicekit.spans", "opentelemetry.exporter", "google.protobuf"} & set(sys.modules)
assert spans("s", Tracing(endpoint="http://127.0.0.1:1"))
assert threading.active_count() == 2, "the check above cannot fail"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture(autouse=True)
def opentelemetry_logs_as_before() -> Iterator[None]:
    logger = logging.getLogger("opentelemetry")
    handlers, level = logger.handlers, logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.handlers, logger.propagate = handlers, True
    logger.setLevel(level)


def test_a_long_path_is_cut_off(collector: Collector) -> None:
    recorded = Spans("s", collector.endpoint, ratio=1)
    trace = recorded.start("", "GET", "/" + "x" * 5000)
    assert trace.span is not None
    trace.span.end()
    recorded.close()
    (span,) = collector.of("s")
    assert len(str(attributes(span)["url.path"])) == spans.ATTRIBUTE_CHARACTERS
