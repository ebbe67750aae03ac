"""Spans, exported by OTLP over HTTP in the background. Requests do not wait for the export: spans that cannot be exported are lost."""

import logging
import random
import socket
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OpenSpan

from servicekit.metrics import METHODS
from servicekit.tracing import Trace, continued

log = logging.getLogger(__name__)
Attributes = Mapping[str, str | int]
EXPORT_S = 5.0
"""Seconds for the export of one batch, including retries."""
CLOSE_S = 3.0
"""Seconds for the export of the remaining spans when the service stops."""
QUIET_S = 60.0
"""Seconds between two log lines about lost spans."""
QUEUE = 2048
"""Maximum spans that wait for their export; more are lost."""
ATTRIBUTE_CHARACTERS = 512
"""Maximum characters of an attribute's value, such as a path; the rest is cut off."""


class Span:
    """The span of a request, or of a part of it.

    Args:
        tracer: tracer of its child spans.
        span: OpenTelemetry's span.
    """

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: OpenSpan) -> None:
        self._tracer = tracer
        self._span = span

    def child(self, name: str, attributes: Attributes) -> "Span":
        """Return a child span, for a part that another service or system does."""
        beneath = set_span_in_context(self._span, Context())
        return Span(self._tracer, self._tracer.start_span(name, beneath, SpanKind.CLIENT, attributes))

    def trace(self) -> Trace:
        """Return the trace context of the span."""
        context = self._span.get_span_context()
        return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=True, span=self)

    def end(self, name: str | None = None, attributes: Attributes | None = None, error: str | None = None) -> None:
        """End the span.

        Args:
            name: name that replaces the initial one.
            attributes: further attributes.
            error: kind of error, if the operation failed.
        """
        if name:
            self._span.update_name(name)
        if attributes:
            self._span.set_attributes(attributes)
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Spans:
    """The recorder of a service's spans.

    Args:
        service: name of the service.
        endpoint: URL of the collector, without /v1/traces.
        ratio: fraction of the traces that begin here that are recorded; callers decide on the traces that they begin.
    """

    def __init__(self, service: str, endpoint: str, ratio: float) -> None:
        self.ratio = ratio
        outage = Outage(endpoint)
        resource = Resource.create({"service.name": service, "service.instance.id": socket.gethostname()})
        self.provider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=ATTRIBUTE_CHARACTERS),
        )
        self.provider.add_span_processor(
            BatchSpanProcessor(Exporter(endpoint, outage), QUEUE, schedule_delay_millis=1000)
        )
        self.tracer = self.provider.get_tracer("servicekit")

    def start(self, header: str, method: str, path: str) -> Trace:
        """Return the trace of a new request, with a started span if it is recorded."""
        trace = continued(header)
        chosen = trace.sampled if trace.parent_id else random.random() < self.ratio  # noqa: S311 - no secret
        if not chosen:
            return trace
        parent = Context()
        if trace.parent_id:
            caller = SpanContext(
                int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=TraceFlags(1)
            )
            parent = set_span_in_context(NonRecordingSpan(caller), parent)
        attributes = {"http.request.method": known(method), "url.path": path, "url.scheme": "http"}
        return Span(self.tracer, self.tracer.start_span("HTTP", parent, SpanKind.SERVER, attributes)).trace()

    @staticmethod
    def end(span: Span, method: str, endpoint: str, status: int) -> None:
        """End a request's span, as in OpenTelemetry's conventions for HTTP."""
        name = f"{method if method in METHODS else 'HTTP'} {endpoint}"
        attributes = {"http.route": endpoint, "http.response.status_code": status}
        span.end(name, attributes, str(status) if status >= 500 else None)

    def close(self) -> None:
        """Export the remaining spans, within CLOSE_S seconds."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class Exporter(OTLPSpanExporter):
    """OpenTelemetry's exporter, which also reports the end of an outage.

    Args:
        endpoint: URL of the collector.
        outage: outage that ends with a successful export.
    """

    def __init__(self, endpoint: str, outage: "Outage") -> None:
        super().__init__(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
        self._outage = outage

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.over()
        return result


class Outage(logging.Handler):
    """Log handler that reduces OpenTelemetry's many messages during an outage to one line.

    Args:
        endpoint: URL of the collector.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._on = False
        self._told_at = -QUIET_S
        logger = logging.getLogger("opentelemetry")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a message of OpenTelemetry."""
        if self._on or time.monotonic() - self._told_at < QUIET_S:
            return
        self._on, self._told_at = True, time.monotonic()
        about = {"endpoint": self._endpoint, "reason": record.getMessage()}
        log.warning("Spans are lost until the collector takes them; requests are served all the same", extra=about)

    def over(self) -> None:
        """Record a successful export, which ends the outage."""
        self._on = False


def known(method: str) -> str:
    """Return a method as in OpenTelemetry's conventions."""
    return method if method in METHODS else "_OTHER"
