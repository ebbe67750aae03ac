"""Spans, exported by OTLP over HTTP in the background. Nobody waits for that: what cannot be exported is lost."""

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
"""For one batch, with all that is tried again."""
CLOSE_S = 3.0
"""For what is left when the service ends."""
QUIET_S = 60.0
"""Between two lines about spans that are lost."""
QUEUE = 2048
"""Spans that wait to be exported; more are lost."""
ATTRIBUTE_CHARACTERS = 512
"""Of an attribute's value, such as a path; the rest is cut off."""


class Span:
    """What is recorded of a request, or of a part of it.

    Args:
        tracer: makes the spans beneath it.
        span: OpenTelemetry's.
    """

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: OpenSpan) -> None:
        self._tracer = tracer
        self._span = span

    def child(self, name: str, attributes: Attributes) -> "Span":
        """The span of a part that somebody else does."""
        beneath = set_span_in_context(self._span, Context())
        return Span(self._tracer, self._tracer.start_span(name, beneath, SpanKind.CLIENT, attributes))

    def trace(self) -> Trace:
        """Its place in its trace."""
        context = self._span.get_span_context()
        return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=True, span=self)

    def end(self, name: str | None = None, attributes: Attributes | None = None, error: str | None = None) -> None:
        """It is over.

        Args:
            name: a better one than it began with.
            attributes: more of them.
            error: what kind, where it ended in one.
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
    """Records the spans of a service.

    Args:
        service: name of the service.
        endpoint: URL of the collector, without /v1/traces.
        ratio: of the traces that begin here, how many are recorded; whoever began one elsewhere has said so for it.
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
        """The trace of a request that has come, with a span that has begun where it is recorded."""
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
        """End a request's span, as OpenTelemetry's conventions for HTTP have it."""
        name = f"{method if method in METHODS else 'HTTP'} {endpoint}"
        attributes = {"http.route": endpoint, "http.response.status_code": status}
        span.end(name, attributes, str(status) if status >= 500 else None)

    def close(self) -> None:
        """Export what is left, if that is soon done."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class Exporter(OTLPSpanExporter):
    """OpenTelemetry's, that says when it works.

    Args:
        endpoint: URL of the collector.
        outage: that is over then.
    """

    def __init__(self, endpoint: str, outage: "Outage") -> None:
        super().__init__(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
        self._outage = outage

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.over()
        return result


class Outage(logging.Handler):
    """Makes one line of all that OpenTelemetry has to say while spans are lost, which is a lot.

    Args:
        endpoint: where they should go.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._on = False
        self._told_at = -QUIET_S
        logger = logging.getLogger("opentelemetry")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """OpenTelemetry has said something."""
        if self._on or time.monotonic() - self._told_at < QUIET_S:
            return
        self._on, self._told_at = True, time.monotonic()
        about = {"endpoint": self._endpoint, "reason": record.getMessage()}
        log.warning("Spans are lost until the collector takes them; requests are served all the same", extra=about)

    def over(self) -> None:
        """A batch was taken."""
        self._on = False


def known(method: str) -> str:
    """A method as the conventions have it."""
    return method if method in METHODS else "_OTHER"
