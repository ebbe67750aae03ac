"""A collector of spans, as far as the tests want one: takes OTLP over HTTP, and keeps what it gets."""

import gzip
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has come, and where it is taken.

    Args:
        endpoint: its URL.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[tuple[str, Span]] = []
        """With the name of its service."""

    def of(self, service: str) -> list[Span]:
        """A service's spans, by when they began."""
        return sorted((span for name, span in self.spans if name == service), key=lambda s: s.start_time_unix_nano)


@contextmanager
def collecting(host: str = "127.0.0.1") -> Generator[Collector]:
    """A collector at an address of this machine, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            known = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            if known:
                zipped = self.headers.get("content-encoding") == "gzip"
                keep(collector, ExportTraceServiceRequest.FromString(gzip.decompress(sent) if zipped else sent))
            self.send_response(200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
            """Nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        collector = Collector(f"http://{host}:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def keep(collector: Collector, request: ExportTraceServiceRequest) -> None:
    """Keep the spans of a request."""
    for resource in request.resource_spans:
        names = [pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"]
        spans = (span for scope in resource.scope_spans for span in scope.spans)
        collector.spans += ((names[0], span) for span in spans)


def attributes(span: Span) -> dict[str, str | int]:
    """Of a span."""
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
