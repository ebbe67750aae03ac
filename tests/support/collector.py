"""A collector of spans and logs, as far as the tests need one: it accepts OTLP over HTTP and keeps the data."""

import gzip
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """The collected spans and logs, and the address of the collector.

    Args:
        endpoint: the URL of the collector.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[tuple[str, Span]] = []
        """Spans, each with the name of its service."""
        self.logs: list[tuple[dict[str, str | int], LogRecord]] = []
        """Log records, each with the attributes of its resource."""
        self.refuses_logs = False

    def of(self, service: str) -> list[Span]:
        """Return a service's spans, ordered by start time."""
        return sorted((span for name, span in self.spans if name == service), key=lambda s: s.start_time_unix_nano)


@contextmanager
def collecting(host: str = "127.0.0.1") -> Generator[Collector]:
    """Run a collector at an address of this machine, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            content = gzip.decompress(sent) if self.headers.get("content-encoding") == "gzip" else sent
            known = self.path in KEEPS and self.headers["content-type"] == "application/x-protobuf"
            refused = collector.refuses_logs and self.path == "/v1/logs"
            if known and not refused:
                KEEPS[self.path](collector, content)
            self.send_response(503 if refused else 200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
            """Log nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        collector = Collector(f"http://{host}:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def keep_spans(collector: Collector, content: bytes) -> None:
    """Keep the spans of a request."""
    for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
        name = str(values(resource.resource.attributes)["service.name"])
        collector.spans += ((name, span) for scope in resource.scope_spans for span in scope.spans)


def keep_logs(collector: Collector, content: bytes) -> None:
    """Keep the lines of a request."""
    for resource in ExportLogsServiceRequest.FromString(content).resource_logs:
        of = values(resource.resource.attributes)
        collector.logs += ((of, line) for scope in resource.scope_logs for line in scope.log_records)


KEEPS = {"/v1/traces": keep_spans, "/v1/logs": keep_logs}


def values(attributes: Iterable[KeyValue]) -> dict[str, str | int]:
    """Return attributes as a table."""
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in attributes}


def attributes(span: Span) -> dict[str, str | int]:
    """Return the attributes of a span."""
    return values(span.attributes)
