"""Metrics by the names that the estate's dashboards and alerts know."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

DURATION = Histogram(
    "http_request_duration_seconds", "Time from request to end of answer", ["method", "endpoint", "status_code"]
)
ACTIVE = Gauge("active_requests", "Requests being answered")
active = 0
"""Counted here, and told when it is asked for."""
ACTIVE.set_function(lambda: active)
ERRORS = Counter("service_errors", "Errors that are the service's own", ["service", "error_type"])
REGISTERED = Gauge("service_registered", "1 while the service is registered in Consul, 0 while not")
BUILD = Gauge("build_info", "1, and which version of the service this is", ["service", "version"])
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@cache  # bounded, as its arguments are: routes, known methods, status codes
def histogram(method: str, endpoint: str, status: int) -> Histogram:
    """The histogram of one kind of request."""
    return DURATION.labels(method, endpoint, str(status))


def observe(method: str, endpoint: str, status: int, duration_s: float, exemplar: dict[str, str] | None) -> None:
    """Count a request; anybody can send any method, so unknown ones are one.

    Args:
        method: of the request.
        endpoint: its route's template.
        status: of the answer.
        duration_s: how long it took.
        exemplar: the trace that shows what such a request did, where there is one.
    """
    histogram(method if method in METHODS else "OTHER", endpoint, status).observe(duration_s, exemplar)


def expose(accept: str) -> Response:
    """The answer to a scrape: with exemplars where OpenMetrics is asked for, which alone can tell them."""
    try:
        encode, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is none: as if nothing was said (RFC 9110, section 12.5.1)
        encode, content_type = choose_encoder("")
    return Response(encode(REGISTRY), headers={"content-type": content_type})


def tell_version(service: str) -> None:
    """Say which version of a service runs: that of the package by its name."""
    try:
        known = version(service)
    except PackageNotFoundError:
        known = "unknown"
    BUILD.labels(service, known).set(1)
