"""Traces of a request: from its caller through the gateway and the service, and links to both from a metric."""

import secrets
import time

import httpx

from estate.stack.model import Stack, outputs
from tests.support.collector import Collector
from tests.support.running import connect, eventually

BUCKETS = 'http_request_duration_seconds_bucket{job="user-service"}'


def parents(collector: Collector, service: str, trace: str) -> dict[str, str]:
    """Return the parent of each span of a trace that a service sent."""
    spans = (span for span in collector.of(service) if span.trace_id.hex() == trace)
    return {span.span_id.hex(): span.parent_span_id.hex() for span in spans}


def test_a_request_is_followed_from_its_caller_through_gateway_and_service_and_from_a_metric(
    stack: Stack, client: httpx.Client, collector: Collector
) -> None:
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    begun = time.time()
    answered = client.get("/api/v1/users?limit=1", headers={"traceparent": f"00-{trace}-{caller}-01"})
    assert answered.status_code == 200

    def complete() -> bool:
        of_gateway, of_service = (parents(collector, name, trace) for name in ("api-gateway", "user-service"))
        return caller in of_gateway.values() and bool(of_gateway.keys() & set(of_service.values()))

    eventually(complete, "gateway and service send their spans, each below the one before", 30)
    with connect(outputs(stack)["urls"]["prometheus"]) as prometheus:

        def linked() -> bool:
            asked = {"query": BUCKETS, "start": begun - 60, "end": time.time() + 60}
            found = prometheus.get("/api/v1/query_exemplars", params=asked).json()["data"]
            return trace in {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}

        eventually(linked, "the trace is an exemplar of a duration", 60)


def test_a_request_whose_caller_wants_no_trace_leaves_none(client: httpx.Client, collector: Collector) -> None:
    wanted, unwanted = secrets.token_hex(16), secrets.token_hex(16)
    for trace, flag in ((unwanted, "00"), (wanted, "01")):
        traceparent = f"00-{trace}-{secrets.token_hex(8)}-{flag}"
        assert client.get("/api/v1/users?limit=1", headers={"traceparent": traceparent}).status_code == 200
    eventually(lambda: bool(parents(collector, "user-service", wanted)), "the later one's spans", 30)
    assert parents(collector, "user-service", unwanted) == {}
    assert parents(collector, "api-gateway", unwanted) == {}
