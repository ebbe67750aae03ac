"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to; its spans, where they are wanted."""

import random
import re
from dataclasses import dataclass
from typing import Any

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in its trace."""

    trace_id: str
    span_id: str
    sampled: bool
    parent_id: str | None = None
    span: Any = None
    """OpenTelemetry's, where spans are exported."""

    @property
    def traceparent(self) -> str:
        """The header for requests that are made in the course of this one."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def continued(header: str) -> Trace:
    """The trace that the caller's traceparent names, or a new one where it is missing or malformed."""
    found = TRACEPARENT.fullmatch(header) if header else None
    if found is None:
        ids = f"{random.getrandbits(192):048x}"
        return Trace(ids[:32], ids[32:], sampled=False)
    return Trace(found[1], new_span_id(), sampled=int(found[3], 16) & 1 == 1, parent_id=found[2])


def new_span_id() -> str:
    """Random, as the ids have to be; nobody has to fear that they are guessed, so that the kernel need not be asked."""
    return f"{random.getrandbits(64):016x}"


class Spans:
    """Spans of requests, exported by OTLP over HTTP in the background.

    Args:
        service: name of the service.
        endpoint: URL of the collector, without /v1/traces.
    """

    def __init__(self, service: str, endpoint: str) -> None:
        # Imported here: OpenTelemetry takes its time, and most runs do without.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self.provider = TracerProvider(resource=Resource({"service.name": service}))
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("servicekit")

    def start(self, header: str, method: str) -> Trace:
        """A trace with a span that has begun."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": header})
        span = self.tracer.start_span(method, parent, SpanKind.SERVER)
        context = span.get_span_context()
        return Trace(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=context.trace_flags.sampled, span=span
        )

    @staticmethod
    def end(trace: Trace, method: str, endpoint: str, status: int) -> None:
        """End a trace's span, named as OpenTelemetry's conventions for HTTP have it."""
        trace.span.update_name(f"{method} {endpoint}")
        trace.span.set_attributes(
            {"http.request.method": method, "http.route": endpoint, "http.response.status_code": status}
        )
        if status >= 500:
            from opentelemetry.trace import StatusCode

            trace.span.set_status(StatusCode.ERROR)
        trace.span.end()

    def close(self) -> None:
        """Export what is left."""
        self.provider.shutdown()
