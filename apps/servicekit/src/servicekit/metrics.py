"""Metrics, with the names that the estate's dashboards and alerts use."""

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
"""Number of active requests, which ACTIVE reads when it is scraped."""
ACTIVE.set_function(lambda: active)
ERRORS = Counter("service_errors", "Errors that are the service's own", ["service", "error_type"])
REGISTERED = Gauge("service_registered", "1 while the service is registered in Consul, 0 while not")
BUILD = Gauge("build_info", "1, and which version of the service this is", ["service", "version"])
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@cache  # bounded by its arguments: routes, known methods, status codes
def histogram(method: str, endpoint: str, status: int) -> Histogram:
    """Return the histogram of one kind of request."""
    return DURATION.labels(method, endpoint, str(status))


def observe(method: str, endpoint: str, status: int, duration_s: float, exemplar: dict[str, str] | None) -> None:
    """Count a request; unknown methods share one label, since clients can send any.

    Args:
        method: method of the request.
        endpoint: template of its route.
        status: status of the response.
        duration_s: duration of the request.
        exemplar: labels of the trace of the request, if there is one.
    """
    histogram(method if method in METHODS else "OTHER", endpoint, status).observe(duration_s, exemplar)


def expose(accept: str) -> Response:
    """Return the response to a scrape: with exemplars if OpenMetrics is requested, the only format that has them."""
    try:
        encode, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # an invalid version: ignore the header (RFC 9110, section 12.5.1)
        encode, content_type = choose_encoder("")
    return Response(encode(REGISTRY), headers={"content-type": content_type})


def tell_version(service: str) -> None:
    """Set the version of the service in the metrics: that of the package with its name."""
    try:
        known = version(service)
    except PackageNotFoundError:
        known = "unknown"
    BUILD.labels(service, known).set(1)
