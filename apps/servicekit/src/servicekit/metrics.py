"""Metrics by the names that the estate's dashboards and alerts know."""

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

DURATION = Histogram(
    "http_request_duration_seconds", "Time from request to end of answer", ["method", "endpoint", "status_code"]
)
ACTIVE = Gauge("active_requests", "Requests being answered")
ERRORS = Counter("service_errors", "Errors that are the service's own", ["service", "error_type"])
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_label(method: str) -> str:
    """A method as a label: anybody can send any word."""
    return method if method in METHODS else "OTHER"


def expose() -> Response:
    """The answer to a scrape."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
